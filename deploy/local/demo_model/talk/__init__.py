"""What is asked about pictures, the true answers, and both as tokens.

phrases         wordings of questions, the last of each list held out
turns           a question with its answer, and when a reply to it is right
questions       questions about pictures of each kind, about several, about none
conversations   whole conversations by lot
documents       documents for pre-training
sampling        questions without pixels, for the tokenizer
tokenizer, examples     text and pictures as the tensors a language model is trained on

Knows nothing of how networks are trained.
"""
