"""Images and videos to visual token embeddings: steps 2 to 5 of the data's path.

server          composes the service
servicer        translates VisionService to calls of `encoder`
encoder         one file end to end
encoder_status  how busy it is
file_kinds      what a file is, by its first bytes
tiles           an image to tiles
pixels          tiles to normalized tensors
tile_queue      which tiles are encoded next
batcher         tiles of many requests in batches for the device
settings        settings of the service
metrics         metrics of the service
image           bytes to an RGB image
video           bytes to sampled frames
decoder         files to tiles, in confined processes
copies          embeddings and media kept in memory and in Redis
model           tiles to visual tokens
"""
