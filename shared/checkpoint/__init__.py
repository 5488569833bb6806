"""Files of a checkpoint, in either layout.

config     config.json as frozen dataclasses
weights    tensors under a prefix, read lazily
tokenizer  the tokenizer, from its files alone
info       identity of the model that a service serves
"""
