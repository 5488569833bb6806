"""InternVL3 chat over gRPC, from Python: the one import name of the distribution `internvl-client`.

chat, common   generated stubs of the public contract, where protoc puts them
vision, llm    generated stubs of the contracts between the services
increments     position increments of visual tokens
errors         every error a caller can meet
transport      channels, TLS, statuses, deadlines: how a call travels
client         the client itself, with and without an event loop
cli            the command `internvl`
"""
