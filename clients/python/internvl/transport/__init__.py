"""How a call travels: shared by the client and the services.

address    addresses, with a port where they have none
channel    channels and their limits
tls        certificates of one side, from PEM files
status     errors as google.rpc.Status, and back
deadline   the moment a request must be done by
pauses     pauses before retries
tasks      stopping tasks, and the first failure of a group
chunks     a file as a stream of chunks, and back
"""
