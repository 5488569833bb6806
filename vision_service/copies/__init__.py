"""Embeddings and media kept in memory and in Redis: step 5 of the data's path.

copies          both places as one
memory_copies   the place in memory, bounded in bytes
write_behind    writes to Redis behind the answer, bounded in bytes
single_flight   equal requests in this process, served by one
replica_flight  equal requests on all replicas, served by one
"""
