"""The vision tower beside transformers and vLLM: `python -m bench.encode`.

compare  runs the encoders in turn and prints the table
vllm     vLLM's encoder by itself
"""
