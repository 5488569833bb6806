"""The demo model: a small InternVL3 checkpoint, and the program that trains it from nothing on pictures it draws.

drawing             pictures: shapes, handwritten digits, printed words, charts, windows, videos
talk                what is asked about them, and the true answers, as text and as tokens
model               the network's shape
network             the forward pass of training, the optimizer, one step of learning
recipe              InternVL3's training recipe in miniature, a module a part
critic              a process reward model in miniature: which of several solutions is best
train               all parts one after the other, resumable
export              the trained weights as a checkpoint in the original InternVL3 layout
layout              names of tensors, transformers' and the original ones
checkpoint_files    the checkpoint's folder, written and read
answering           replies with nothing but transformers, to check what servers say
samples             pictures with known answers, for a first try and for tests
evaluation          how often it is right, on pictures and wordings it never saw

Nothing in the services knows of this package: they serve `checkpoint/` as they serve any other InternVL3 folder.
"""
