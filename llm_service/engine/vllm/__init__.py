"""vLLM as a second engine. Scheduling, the KV cache, kernels and parallelism are vLLM's own; here is what V2PE adds.

    engine.py      the Engine over vLLM's AsyncLLM
    options.py     settings -> vLLM's engine arguments, and the configuration vLLM reads
    request.py     one of our requests -> vLLM's input
    plugin.py      tells vLLM of the model, in each of its processes
    model.py       any decoder of vLLM's registry, with our rotation, fed with embeddings
    positions.py   fractional positions as the integers vLLM carries
    sampling.py    chooses tokens as the PyTorch engine does, so that either goes on with the other's reply

Only these modules import vllm, and nobody imports them before vLLM was chosen.
"""
