"""Tensor parallelism: one process a rank.

ranks      what a rank keeps of each tensor, and how ranks sum
followers  the processes of the other ranks
"""
