"""How many pods, GPUs, Redis shards and how much network a load takes: docs/operations.md has the formulas in words.

model's shape -> costs of a tile and of a token (costs.py) -> what a load takes (plan.py)
"""
