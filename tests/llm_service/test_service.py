"""The service as a process behind real gRPC: whoever asks wrongly, or goes away, costs nobody else a token."""

from __future__ import annotations

import asyncio
import json
import re
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import jsonschema
import pytest
import pytest_asyncio
import torch

from deploy.local.process import Child
from internvl.common.v1 import output_pb2, sampling_pb2, tools_pb2, visual_pb2
from internvl.errors import (
    BadOption,
    EmbeddingInvalid,
    EmbeddingNotFound,
    GrammarInvalid,
    InternvlError,
    PromptTooLong,
)
from internvl.llm.v1 import llm_pb2, llm_pb2_grpc
from internvl.transport.status import from_call_error
from shared.store.embedding_store import EmbeddingStore, Manifest, frame_tile
from shared.store.redis_store import RedisStore
from tests.support.checkpoints import MAX_POSITIONS, TOKENS_PER_TILE, write_random_checkpoint
from tests.support.redis import RedisProcess

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
WIDTH, TILES = 64, 3
REPLY = 60
"""Tokens: enough steps for others to come and go meanwhile."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    server = RedisProcess()
    server.start()
    yield server
    server.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(
    redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[llm_pb2_grpc.LlmServiceAsyncStub]:
    folder = tmp_path_factory.mktemp("llm")
    write_random_checkpoint(folder / "model")
    command = [sys.executable, "-m", "llm_service", "--model", str(folder / "model"), "--redis-url", redis.url]
    child = await Child.start("llm", [*command, "--port", "0", "--threads", "1"], log_folder=folder)
    watch = asyncio.create_task(child.watch())
    await asyncio.wait([watch, asyncio.create_task(child.ready())], return_when=asyncio.FIRST_COMPLETED)
    assert child.address, child.last_lines
    async with grpc.aio.insecure_channel(child.address) as channel:
        yield llm_pb2_grpc.LlmServiceStub(channel)
    await child.stop(5.0)
    watch.cancel()


@pytest_asyncio.fixture(loop_scope="module")
async def store(redis: RedisProcess) -> AsyncIterator[EmbeddingStore]:
    store = EmbeddingStore(RedisStore(redis.url), seconds=600)
    yield store
    await store.close()


async def put(
    store: EmbeddingStore, key: str, rows: int = TOKENS_PER_TILE, width: int = WIDTH, last: float = 0.0
) -> None:
    """An embedding whose last value is `last`."""
    manifest = Manifest(rows, width, "float32", (TILES,))
    values = torch.randn(TILES, rows * width, generator=torch.Generator().manual_seed(rows + width))
    values[-1, -1] = last
    packed = [struct.pack(f"<{rows * width}f", *tile) for tile in values]
    await store.put(key, manifest, [frame_tile(key, index, tile, manifest) for index, tile in enumerate(packed)])


def asking(key: str = "", *, text: str = "tell", max_tokens: int = REPLY, **sampling: Any) -> llm_pb2.GenerateRequest:
    """A question, about an embedding if a key is given."""
    parts = [llm_pb2.Part(text=text)]
    if key:
        reference = visual_pb2.EmbeddingReference(key=key, tile_count=TILES, tokens_per_tile=TOKENS_PER_TILE)
        parts.insert(0, llm_pb2.Part(image=llm_pb2.VisualPart(embedding=reference)))
    return llm_pb2.GenerateRequest(
        tenant="tenant",
        messages=[llm_pb2.Message(role=visual_pb2.ROLE_USER, parts=parts)],
        sampling=sampling_pb2.SamplingOptions(max_tokens=max_tokens, temperature=1.0, seed=5, **sampling),
    )


async def reply(stub: llm_pb2_grpc.LlmServiceAsyncStub, request: llm_pb2.GenerateRequest) -> list[int]:
    """Token ids. Raises what the service answers."""
    try:
        return [token for event in [event async for event in stub.Generate(request)] for token in event.delta.token_ids]
    except grpc.aio.AioRpcError as error:
        raise from_call_error(error) from error


async def nothing_is_held(stub: llm_pb2_grpc.LlmServiceAsyncStub) -> None:
    """Within a second, which is many steps."""
    deadline = time.monotonic() + 1.0
    while True:
        status = await stub.GetStatus(llm_pb2.GetStatusRequest())
        if not (status.waiting_request_count or status.running_request_count or status.used_page_count):
            return
        assert time.monotonic() < deadline, f"still held: {status}"
        await asyncio.sleep(0.01)


def too_many_tiles() -> llm_pb2.GenerateRequest:
    request = asking("f" * 64)
    request.messages[0].parts[0].image.embedding.tile_count = 2**31 - 1
    request.messages[0].parts[0].image.embedding.tokens_per_tile = 2**31 - 1
    return request


def unknown_token() -> llm_pb2.GenerateRequest:
    request = asking()
    request.resume_token_ids.append(2**31 - 1)
    return request


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: asking("0" * 64), EmbeddingNotFound),
        (lambda: asking("1" * 64), EmbeddingInvalid),
        (lambda: asking("2" * 64), EmbeddingInvalid),
        (lambda: asking("3" * 64), EmbeddingInvalid),
        (lambda: asking(max_tokens=MAX_POSITIONS + 1), PromptTooLong),
        (lambda: asking(text="word " * MAX_POSITIONS), PromptTooLong),
        (lambda: asking(stop=["x"] * 1_000_000), BadOption),
        (lambda: asking(stop=["x" * 1_000_000]), BadOption),
        (too_many_tiles, PromptTooLong),
        (unknown_token, BadOption),
    ],
    ids=["absent", "not finite", "width", "rows", "max_tokens", "prompt", "stops", "long stop", "tiles", "resume"],
)
async def test_bad_input_fails_its_request_alone(
    stub: llm_pb2_grpc.LlmServiceAsyncStub,
    store: EmbeddingStore,
    make: Callable[[], llm_pb2.GenerateRequest],
    error: type[InternvlError],
) -> None:
    await put(store, "1" * 64, last=float("nan"))
    await put(store, "2" * 64, width=WIDTH + 1)
    await put(store, "3" * 64, rows=TOKENS_PER_TILE - 1)
    await put(store, "a" * 64)
    alone = await reply(stub, asking("a" * 64))
    steady, bad = await asyncio.gather(reply(stub, asking("a" * 64)), reply(stub, make()), return_exceptions=True)
    assert type(bad) is error
    assert steady == alone
    await nothing_is_held(stub)


def output(**form: Any) -> output_pb2.OutputFormat:
    return output_pb2.OutputFormat(**form)


SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["circle", "square"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["kind", "count"],
    "additionalProperties": False,
}


async def text_of(stub: llm_pb2_grpc.LlmServiceAsyncStub, request: llm_pb2.GenerateRequest) -> tuple[str, int]:
    """The text of a reply and why it ended."""
    events = [event async for event in stub.Generate(request)]
    return "".join(event.delta.text for event in events), events[-1].finished.reason


async def test_replies_have_the_form_that_was_asked_for(stub: llm_pb2_grpc.LlmServiceAsyncStub) -> None:
    """All at once, beside a reply that is free."""
    alone = await reply(stub, asking())
    choices = output_pb2.Choices(choices=["  yes ", "no"])
    (schema, _), (word, _), (chosen, _), (lark, _), free = await asyncio.gather(
        text_of(stub, asking(max_tokens=400, output=output(json_schema=json.dumps(SCHEMA)))),
        text_of(stub, asking(output=output(regex=" [a-c]{3}"))),
        text_of(stub, asking(output=output(choice=choices))),
        text_of(stub, asking(output=output(lark='start: "x" /y+/ "z"'), stop=["z"], include_stop=True)),
        reply(stub, asking()),
    )
    jsonschema.validate(json.loads(schema), SCHEMA)
    assert re.fullmatch(" [a-c]{3}", word)
    assert chosen in choices.choices
    assert re.fullmatch("xy+z?", lark)
    assert free == alone
    await nothing_is_held(stub)


@pytest.mark.parametrize(
    ("form", "field", "words"),
    [
        (
            {"json_schema": '{"properties": {"a": {"items": {"type": "objekt"}}}}'},
            "json_schema",
            r"at /properties/a/items",
        ),
        ({"json_schema": "{"}, "json_schema", "not JSON"),
        ({"json_schema": "[]"}, "json_schema", "JSON object"),
        ({"json_schema": '{"a": ' * 5000 + "1" + "}" * 5000}, "json_schema", "deep"),
        ({"json_schema": '{"const": "\\ud800"}'}, "json_schema", "half a character"),
        ({"regex": "(a"}, "regex", "unclosed"),
        ({"choice": output_pb2.Choices(choices=["a", ""])}, "choice", "none empty"),
        ({"lark": "start: nothing"}, "lark", "unknown name"),
        ({"lark": ""}, "lark", "characters"),
    ],
)
async def test_a_form_that_cannot_be_is_refused_with_the_place(
    stub: llm_pb2_grpc.LlmServiceAsyncStub, form: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(GrammarInvalid, match=words) as refused:
        await reply(stub, asking(output=output(**form)))
    assert refused.value.field == f"sampling.output.{field}"


def with_tools(*, choice: tools_pb2.ToolChoice, **sampling: Any) -> llm_pb2.GenerateRequest:
    request = asking(max_tokens=600, **sampling)
    tool = tools_pb2.Tool(name="count", parameters=json.dumps(SCHEMA))
    request.tools.CopyFrom(tools_pb2.ToolOptions(tools=[tool], choice=choice))
    return request


async def test_required_calls_stream_and_resume(stub: llm_pb2_grpc.LlmServiceAsyncStub) -> None:
    request = with_tools(choice=tools_pb2.ToolChoice(name="count"))
    events = [event async for event in stub.Generate(request)]
    pieces = [call for event in events for call in event.delta.tool_calls]
    assert pieces[0].name == "count"
    assert len(pieces) > 3
    jsonschema.validate(json.loads("".join(piece.arguments for piece in pieces)), SCHEMA)
    assert not any(event.delta.text for event in events)
    assert events[-1].finished.reason == sampling_pb2.FINISH_REASON_TOOL_CALLS
    tokens = [token for event in events for token in event.delta.token_ids]
    for cut in (1, len(tokens) // 2, len(tokens) - 1):
        request.resume_token_ids[:] = tokens[:cut]
        rest = [event async for event in stub.Generate(request)]
        said = [call for event in events if event.delta.token_ids for call in event.delta.tool_calls]
        before = [call for event in events[1 : cut + 1] for call in event.delta.tool_calls]
        assert before + [call for event in rest for call in event.delta.tool_calls] == said
    await nothing_is_held(stub)


async def test_parameters_that_are_no_schema_are_refused(stub: llm_pb2_grpc.LlmServiceAsyncStub) -> None:
    request = with_tools(choice=tools_pb2.ToolChoice(name="count"))
    request.tools.tools[0].parameters = '{"properties": {"a": {"type": "objekt"}}}'
    with pytest.raises(GrammarInvalid, match="at /properties/a") as refused:
        await reply(stub, request)
    assert refused.value.field == "tools.tools[0].parameters"


async def test_ignore_eos_goes_to_max_tokens(stub: llm_pb2_grpc.LlmServiceAsyncStub) -> None:
    assert len(await reply(stub, asking(max_tokens=300, ignore_eos=True))) == 300


async def test_at_its_deadline_a_request_is_let_go(stub: llm_pb2_grpc.LlmServiceAsyncStub) -> None:
    call = stub.Generate(asking(max_tokens=1800), timeout=0.3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [event async for event in call]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await nothing_is_held(stub)


async def test_a_client_that_stops_reading_holds_nobody_up(stub: llm_pb2_grpc.LlmServiceAsyncStub) -> None:
    alone = await reply(stub, asking())
    lazy = [stub.Generate(asking(max_tokens=1000, top_logprob_count=20)) for _ in range(4)]
    for call in lazy:
        await call.read()
    assert await asyncio.gather(*(reply(stub, asking()) for _ in range(4))) == [alone] * 4
    for call in lazy:
        call.cancel()
    await nothing_is_held(stub)
