"""How many pods, GPUs, Redis shards and how much network a load takes: docs/operations.md has the formulas in words.

family  shapes of the released sizes
costs   costs of a tile and of a token, from a model's shape
plan    what a load takes, from costs and machines
memory  what a checkpoint takes of the devices that are there
report  what a checkpoint is, and what keeps it from being served
"""
