"""Tiles to visual tokens: step 4 of the data's path.

tower.py     InternViT, pixel unshuffle and projector as one module
loading.py   a checkpoint's vision tensors into it
"""
