"""Code that more than one service needs. No torch, no service.

store             values in Redis: embeddings and media
serving           what every service runs on: the gRPC server, settings, logs, metrics, traces, TLS
checkpoint        files of a checkpoint: configuration and tensors
content           names made from content: store keys and media ids
sampling_options  how tokens are chosen, checked against its ranges
"""
