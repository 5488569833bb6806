"""Video files to sampled frames: step 2 of the data's path.

sampling.py          which frames are wanted, and how much work they may be
timeline.py          which frames a player shows, from the container's packets
reader.py            a file's frames by their place in that order: what every reader can do
decord_reader.py     the reference's reader, where it finds the right frames
pyav_reader.py       FFmpeg's own: every container, edit lists, open groups of pictures
animation_reader.py  GIF, WebP and PNG animations
opening.py           the reader that is right for a file
"""
