"""A gateway on loopback in front of fake services."""

from tests.support.gateway import client, gateway, llm, vision

__all__ = ["client", "gateway", "llm", "vision"]
