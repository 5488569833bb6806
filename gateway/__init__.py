"""The public face: media ids (step 1 of the data's path) and the event stream of a turn (step 11).

Also the Python client and the command line, which need grpc and nothing of a server's.
"""
