"""Random checkpoints of the family's shapes: `python -m bench.checkpoint`.

write   writes the files of a checkpoint
shapes  shapes of the family
qwen    Qwen2.5's tokenizer
"""
