"""The language model beside transformers and vLLM: `python -m bench.llm`.

compare       runs the engines in turn and prints the table
host          the host's part of a decoding step
language      workload and figures of one engine
ours          this repository's engines
transformers  transformers' own generation
vllm          vLLM by itself
"""
