"""The public face: media ids (step 1 of the data's path) and the event stream of a turn (step 11).

server          composes the service
servicer        translates ChatService and MediaService to calls of `chat`
chat            one turn, from checked request to last event
validation      what a request must be before any work is done for it
placeholders    a literal `<image>` in text, where an image goes
translation     messages of the public contract to those of the services
reply_events    events of a reply as clients see them
grounding       regions of images in the text of a reply
settings        settings of the gateway
request_limits  how large a request may be
metrics         metrics of the gateway
media           files of a request: ids, bytes, addresses
replicas        vision and LLM replicas: discovery, health, choice, retries
tenancy         API keys, limits and admission
openai_api      the HTTP endpoint in OpenAI's form
"""
