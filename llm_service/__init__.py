"""Messages and embedding keys to text: steps 6 to 10 of the data's path.

server        composes the service
servicer      translates LlmService to calls of `generation`
generation    one request end to end
validation    what a request must be before any work is done for it
conversation  messages as this service knows them
prompt        messages to token ids and image spans
window        how much of the trained window a request may take
positions     positions of a prompt; visual tokens advance by the increment
embeddings    visual rows from the store or from the replica that holds them
detokenizer   token ids to text that never splits a character
settings      settings of the service
metrics       metrics of the service
engine        token ids, one step at a time
model         the language model
"""
