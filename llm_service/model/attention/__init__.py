"""Attention over the paged cache, by one of several kernels.

interface  what a kernel does for a step
sdpa       PyTorch's scaled dot product, on any device
flash      flash-attn's paged kernels, on GPUs
native     the kernels of this package, on CPUs
"""
