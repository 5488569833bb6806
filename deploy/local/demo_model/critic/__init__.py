"""A critic in miniature: a process reward model of VisualPRM's form, on the demo model's own architecture.

solutions   solutions the demo model samples, each step labelled by whether it still leads to the right answer
layout      question and steps as a conversation, with `+` or `-` after each step
learning    the part of a run in which it learns, and its command line
scoring     the score of a solution, and the best of several
measure     best-of-N against one sample and against majority vote
"""
