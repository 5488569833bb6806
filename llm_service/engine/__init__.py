"""Prompts to token ids, one step at a time: step 9 of the data's path. Has never heard of gRPC.

interface.py   what the rest of the service knows of an engine
sequence.py    one request's tokens, pages and progress
pages.py       which page of the KV cache belongs to whom, and what it holds
scheduler.py   who runs in the next step, and how many of their tokens
batch.py       a step as tensors
runner.py      a batch through the model: logits
sampler.py     logits to tokens
model_thread.py  where all of this computes
engine.py      the loop: schedule, batch, run, sample, emit
"""
