"""Embeddings and media kept in memory and in Redis: step 5 of the data's path.

copies            both kinds over one memory, one queue of writes and one Redis
embedding_copies  embeddings: found, kept
media_copies      files under their ids: kept, refreshed, read
memory_copies     the newest of both in this replica's memory, bounded in bytes
write_behind      writes to Redis behind the answer, bounded in bytes
outage            whether Redis can be read
single_flight     equal requests in this process, served by one
replica_flight    equal requests on all replicas, served by one
"""
