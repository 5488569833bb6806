"""The OpenAI-compatible HTTP endpoint: a translation of `gateway.chat`, by the same door and from the same process.

POST body -> body.py -> conversation.py -> gateway.chat, once for each choice -> replies.py -> JSON or event stream
"""
