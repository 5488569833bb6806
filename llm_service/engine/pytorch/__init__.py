"""The PyTorch engine: continuous batching over a paged key-value cache.

sequence      one request's tokens, pages and progress
pages         which page of the cache belongs to whom, and what it holds
scheduler     who runs in the next step, and how many of their tokens
step_input    a step as tensors
runner        a step through the model: logits
sampler       logits to tokens
draw          random draws that depend on seed and token index alone
model_thread  the thread in which all of this computes
engine        the loop: schedule, run, sample, emit
"""
