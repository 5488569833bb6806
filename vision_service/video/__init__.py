"""Video files to sampled frames: step 2 of the data's path.

sampling          which frames are wanted, and how much work they may be
timeline          which frames a player shows, from the container's packets
reader            a file's frames by their place in that order: what every reader can do
decord_reader     the reference's reader, where it finds the right frames
pyav_reader       FFmpeg's own: every container, edit lists, open groups of pictures
animation_reader  GIF, WebP and PNG animations
opening           the reader that is right for a file
"""
