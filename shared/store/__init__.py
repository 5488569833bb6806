"""Values in Redis: step 5 of the data's path.

embedding_store  embeddings under content keys, visible whole or not at all
media_store      files under media ids, in chunks
framing          header and digest around a value's bytes
compression      lossless compression of 16-bit rows
value_store      the interface of a store, and one in memory
redis_store      the store in Redis, which may fail
redis_parser     replies of Redis read straight into the buffers that keep them
redis_url        one URL for a server, sentinels or a cluster
"""
