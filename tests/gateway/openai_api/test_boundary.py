"""Whatever a handler waits for, its exchange ends."""

import asyncio
import json

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from gateway.openai_api.boundary import Endpoint
from gateway.openai_api.exchange import Exchange


@pytest.mark.parametrize("begun", [False, True])
async def test_an_exchange_ends_at_its_deadline(begun: bool) -> None:
    async def handle(exchange: Exchange) -> None:
        if begun:
            await exchange.start_stream()
            await exchange.stream(b"data: first\n\n")
        await asyncio.Event().wait()

    app = Starlette(routes=[Route("/", Endpoint("/", handle, seconds=0.2), methods=["GET"])])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as client:
        answer = await asyncio.wait_for(client.get("/"), 30)
    body = answer.text.removeprefix("data: first\n\ndata: ") if begun else answer.text
    assert answer.status_code == (200 if begun else 504)
    assert json.loads(body)["error"]["code"] == "deadline_exceeded"
    assert "0.2 s" in json.loads(body)["error"]["message"]
