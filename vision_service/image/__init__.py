"""Image files to RGB: step 2 of the data's path.

decoding.py    bytes to an RGB image; limits, and refusals that say what the file is
pictures.py    whose view of an image is taken, a person's or the reference's
appearance.py  alpha, depth and orientation in that view
damage.py      files whose tail is missing
png_chunks.py  PNG files without the chunks that are not shown
"""
