"""Pictures drawn from facts: shapes and handwritten digits, printed words, charts, windows, photographs.

    scenes, sheets, charts, windows     what is in a picture, drawn by lot
    shapes, fonts, photographs          its pixels
    marks                               where each thing lies, and what lies under each patch

Knows nothing of questions, tokens or networks. The same seed gives the same pixels.
"""
