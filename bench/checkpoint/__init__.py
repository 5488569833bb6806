"""Random checkpoints of the family's shapes: `python -m bench.checkpoint`.

write            the files of a checkpoint
shapes           shapes of the family
qwen             Qwen2.5's tokenizer
tokenizer_files  its files as the released repositories carry them
"""
