"""Image files to RGB: step 2 of the data's path.

decoding    bytes to an RGB image; limits, and refusals that say what the file is
pictures    the view of an image that is taken: a person's or the reference's
appearance  alpha, depth and orientation in that view
damage      files whose tail is missing
png_chunks  PNG files without the chunks that are not shown
"""
