"""The language model: transformers' decoder on paged attention with fractional positions.

language.py    embeddings in, logits out
attention.py   the paged key-value cache and attention over it
projection.py  linear maps, as weights lie best in this device's memory
rotary.py      positions to rotations, in float32
loading.py     a checkpoint's language tensors into the decoder
"""
