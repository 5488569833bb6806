"""The network while it learns and speaks: transformers' weights, a forward pass of our own.

packs       conversations packed without padding
forward     the forward pass over a pack, and over one more token of each prompt
sampling    replies to many prompts at once
heads       what names things under patches, thrown away at export
muon        the optimizer of matrices
learner     everything that learning changes, and one step of it
"""
