"""The demo model: a small InternVL3 checkpoint, and the program that trains it from nothing on pictures it draws.

    digits, scenes -> pictures      what is in a picture, and its pixels
    phrases -> conversations        what is asked about it, and the true answer
    tokenizer -> examples           both as the tensors a language model is trained on
    model -> train -> export        the network, its training, and its files in the original InternVL3 layout
    evaluate, samples               how often it is right on pictures it never saw

Nothing in the services knows of this package: they serve `checkpoint/` as they serve any other InternVL3 folder.
"""
