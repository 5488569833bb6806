"""Kernels of this package for CPUs in bfloat16: linear maps, norms, attention (`native.cpp`).

native         loads and calls them
build          one compilation of them
library_cache  compiled libraries kept between starts
widening       whether they are faster here than PyTorch's own
"""
