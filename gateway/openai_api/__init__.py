"""The OpenAI-compatible HTTP endpoint: a translation of `gateway.chat`, by the same door and from the same process.

server        the HTTP server, in the event loop of the gRPC server
app           the routes
boundary      ids, errors and the log line of every request
exchange      one request and its answer as ASGI messages
body          the fields of a request's body
conversation  a body as one of our requests. Pure
request       parts of a body: messages, the form of the reply, tools
data_url      data: URLs as browsers read them. Pure
replies       events as the API's objects. Pure
merged        several streams of events as one
failures      errors as HTTP statuses and the API's objects. Pure
"""
