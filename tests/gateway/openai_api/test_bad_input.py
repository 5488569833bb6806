"""Random bytes and random JSON: an answer of OpenAI's shape with a reason, never a hang, never a bug's status."""

import asyncio
import json
import random
from typing import Any

import httpx

from tests.gateway.openai_api.conftest import MODEL
from tests.support.fakes import FakeVision

CHAT = "/v1/chat/completions"
SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, 1e308, -1e308, 2**31, 2**63, 2**64, -(2**63), "", "hello", "auto", "user",
    "system", "assistant", "text", "image_url", "\0", "<|im_end|>", "é\u202e", "x" * 5000, MODEL,
    "data:image/png;base64,QUJD", "data:image/png;base64,", "http://127.0.0.1/", "file:///etc/passwd", [], {},
)  # fmt: skip
NAMES = (
    "model", "messages", "role", "content", "type", "text", "image_url", "video_url", "url", "detail", "n", "stream",
    "stop", "seed", "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "logprobs",
    "top_logprobs", "stream_options", "include_usage", "position_increment", "max_tile_count", "frame_count",
    "start_seconds", "end_seconds", "repetition_penalty", "tools", "response_format", "user", "unknown", "",
)  # fmt: skip


def random_value(dice: random.Random, depth: int) -> Any:
    match dice.randrange(4) if depth else 3:
        case 0:
            return [random_value(dice, depth - 1) for _ in range(dice.randrange(3))]
        case 1:
            return {dice.choice(NAMES): random_value(dice, depth - 1) for _ in range(dice.randrange(4))}
        case _:
            return dice.choice(SCALARS)


def valid_body() -> dict[str, Any]:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}}
    clip = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,QUJD", "frame_count": 2}}
    return {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [picture, {"type": "text", "text": "?"}, clip]},
        ],
        "max_tokens": 4,
        "temperature": 0.5,
        "n": 1,
        "stop": ["a"],
        "stream_options": {"include_usage": True},
    }


def harmed(dice: random.Random) -> dict[str, Any]:
    """A valid body with a few values, somewhere, in place of others."""
    body = valid_body()
    for _ in range(dice.randint(1, 3)):
        place: Any = body
        while True:
            name = dice.choice(list(place) + list(NAMES)) if isinstance(place, dict) else dice.randrange(len(place))
            inner = place.get(name) if isinstance(place, dict) else place[name]
            if isinstance(inner, dict | list) and inner and dice.random() < 0.8:
                place = inner
                continue
            place[name] = random_value(dice, 2)
            break
    return body


async def outcome(http: httpx.AsyncClient, content: bytes) -> int:
    async with asyncio.timeout(10):
        answer = await http.post(CHAT, content=content)
    if answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n")
        return answer.status_code
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert answer.status_code in (400, 404), answer.text
        assert error["code"]
        assert error["code"] != "internal"
        assert error["message"]
        assert len(error["message"]) < 500
    return answer.status_code


async def test_random_bytes(http: httpx.AsyncClient) -> None:
    dice = random.Random(1)
    for _ in range(200):
        assert await outcome(http, dice.randbytes(dice.randint(0, 60))) == 400


async def test_random_json(http: httpx.AsyncClient) -> None:
    dice = random.Random(2)
    for _ in range(200):
        assert await outcome(http, json.dumps(random_value(dice, 4)).encode()) == 400


async def test_bodies_that_are_nearly_right(http: httpx.AsyncClient, vision: FakeVision) -> None:
    dice = random.Random(3)
    statuses = [await outcome(http, json.dumps(harmed(dice)).encode()) for _ in range(400)]
    assert {200, 400, 404} == set(statuses)
    assert {encode.tenant for encode in vision.encodes} == {"default"}


async def test_a_valid_body_is_answered(http: httpx.AsyncClient) -> None:
    assert await outcome(http, json.dumps(valid_body()).encode()) == 200
