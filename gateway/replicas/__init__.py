"""Vision and LLM replicas: found, checked, chosen, and tried again elsewhere.

backends      calls to the two services
pool          all replicas of one service
replica       one address: its channel, its health, its calls in flight
route         one request's way through the replicas
discovery     addresses of replicas
health        whether a replica is usable, from its checks and calls. Pure
pairing       which vision and LLM replicas fit each other. Pure
rendezvous    choice of a replica by key and load. Pure
affinity      the key that keeps a conversation on its replica. Pure
reply         a reply so far, and the request that resumes it. Pure
resume        the loop that resumes a reply until it is whole
retry_budget  a bound on retries. Pure
"""
