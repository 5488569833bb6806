"""The PyTorch engine: continuous batching over a paged key-value cache.

request       one request's tokens, pages and progress
pages         which page of the cache belongs to whom, and what it holds
scheduler     who runs in the next step, and how many of their tokens
step_input    a step as tensors
sampler       logits to tokens
penalties     repetition and its kin, over counts kept up
draw          random draws that depend on seed and token index alone
model_thread  the thread in which all of this computes
engine        the loop: schedule, run, sample, emit
"""
