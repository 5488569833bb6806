"""Kernels of this package for CPUs in bfloat16: linear maps, norms, attention (`native.cpp`).

native    compiles, loads and calls them
widening  whether they are faster here than PyTorch's own
"""
