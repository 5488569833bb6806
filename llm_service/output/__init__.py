"""The form of replies: what they are held to, and the tool calls in them.

formats       JSON, JSON Schema, regular expressions, choices and Lark grammars as grammars of the engine
places        where in a JSON Schema a fault is
tools         functions that a reply may call, and the text that tells the model of them
tool_grammar  replies that are calls as grammars of the engine
tool_calls    calls in the text of a reply, parsed as they stream
wire          forms and tools of a request, from protobuf
reply_text    token ids to text and calls
"""
