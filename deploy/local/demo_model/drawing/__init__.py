"""Pictures drawn from facts; the same seed gives the same pixels.

digits          handwritten digits, split once and for all
scenes          what is in a picture of shapes or of a digit, drawn by lot
shapes          scenes as pixels
printed         printed words and numbers
charts          bar charts
windows         windows of a program, with buttons
videos          frames in which something moves or changes
photographs     photographs and noise: what the model cannot name
library         a picture of any kind, by lot
marks, tiles    where each thing lies, and what lies under each patch of a tile

Knows nothing of questions, tokens or networks.
"""
