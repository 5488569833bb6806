"""Tensor parallelism: one process a rank.

ranks  what a rank keeps of each tensor, and how ranks sum
start  starts the ranks, those after the first as processes
"""
