"""Commands that the services add to `internvl`, by the entry-point group `internvl.commands`.

up          everything on this machine
stack_file  settings of the services, from TOML and `SERVICE.NAME=VALUE`
key         API keys of the gateway
plan        what a load takes
check       whether a checkpoint can be served, and what it needs
"""
