"""vLLM as the engine. Scheduling, the cache, kernels and parallelism are vLLM's own; these modules add V2PE.

engine       the Engine over vLLM's AsyncLLM
options      settings as vLLM's engine arguments, and the configuration vLLM reads
request      one of our requests as vLLM's input
items        multimodal items, as vLLM must see them. Pure
plugin       registers the model in each of vLLM's processes
model        any decoder of vLLM's registry, with our rotation, fed with embeddings
positions    fractional positions as the integers that vLLM carries
sampling     tokens drawn as the PyTorch engine draws them, so that either resumes the other's replies
environment  vLLM's environment variables and version, checked before it is imported

Only these modules import vllm, and they are imported only after vLLM was chosen.
"""
