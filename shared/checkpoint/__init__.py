"""Files of a checkpoint, in either layout.

files      JSON, the list of weight files, and folders that are no checkpoint
config     config.json as frozen dataclasses
language   the decoder's part of it
weights    tensors under a prefix, read lazily
tokenizer  the tokenizer, from its files alone
info       identity of the model that a service serves
"""
