"""Everything on one machine.

launcher      Redis and the three services as processes
options       options of the stack
preflight     checks before anything is loaded
process       one program as a child process: its log, its readiness, its end
child         a program that ends when its parent dies
progress      the start of the stack on a screen or in a log
redis_server  a private Redis-compatible server
demo          the demo: two questions about an image
demo_model    the demo model and the program that trains it
"""
