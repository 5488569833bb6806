"""Parts of a request's body. Pure.

message  the fields of a message
forms    the form of the reply
tools    tools and calls
"""
