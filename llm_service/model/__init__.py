"""The language model: transformers' decoder on paged attention with fractional positions.

language    embeddings in, logits out
layer       one decoder layer, with fused projections
hardware    what this machine computes with, decided once
projection  linear maps, as weights lie best in this device's memory
norm        root mean square norm
quantised   8-bit weights
rotary      positions to rotations, in float32
cache       the paged key-value cache
step        one step's tensors
options     how the model is loaded and run
loading     a checkpoint's language tensors into the decoder
attention   attention over the paged cache
kernels     kernels of this package for CPUs
ranks       tensor parallelism over processes
"""
