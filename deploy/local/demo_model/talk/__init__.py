"""What is asked about pictures, the true answers, and both as tokens.

    phrases, turns                      wordings (some held out), a question with its answer, when a reply is right
    shapes, sheets, charts, windows     questions about one picture of each kind
    several, videos, small_talk, tools  questions about more than one picture, about none, and with tools at hand
    conversations                       whole conversations by lot, and documents for pre-training
    tokenizer, examples                 both as the tensors a language model is trained on

Knows nothing of how pictures are drawn or networks trained.
"""
