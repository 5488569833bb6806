"""What only HTTP can get wrong, and what the gateway promises over any transport."""

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme

from gateway.tenancy.key_file import key_digest
from internvl.chat.v1 import chat_pb2, chat_pb2_grpc
from tests.gateway.openai_api.conftest import MODEL
from tests.support.certificates import write_certificate
from tests.support.fakes import FakeLlm, FakeVision, serving
from tests.support.gateway import Served, gateway_settings, gateway_with

BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
CHAT = "/v1/chat/completions"


def code(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    assert set(error) <= {"message", "type", "param", "code", "error_id"}
    return str(error["code"])


@pytest.mark.parametrize(
    ("method", "path", "status", "expected"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/embeddings", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/../../etc/passwd", 404, "not_found"),
    ],
)
async def test_paths_and_methods(http: httpx.AsyncClient, method: str, path: str, status: int, expected: str) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, code(answer)) == (status, expected)


async def raw(address: str, *lines: str, body: bytes = b"") -> httpx.Response:
    """The answer to a request that no well-behaved client sends."""
    reader, writer = await asyncio.open_connection(*address.rsplit(":", 1))
    head = "\r\n".join([f"POST {CHAT} HTTP/1.1", "host: test", "connection: close", *lines, "", ""])
    writer.write(head.encode() + body)
    async with asyncio.timeout(10):
        status = int((await reader.readline()).split()[1])
        while (await reader.readline()).strip():
            pass
        content = await reader.read()
    writer.close()
    return httpx.Response(status, content=content)


async def test_bodies_without_a_length_or_of_another_one(served: Served) -> None:
    answer = await raw(served.http, "transfer-encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n")
    assert (answer.status_code, code(answer)) == (411, "length_required")
    answer = await raw(served.http, f"content-length: {1 << 40}")
    assert (answer.status_code, code(answer)) == (413, "request_too_large")
    answer = await raw(served.http, "content-length: 1", body=b"{")
    assert (answer.status_code, code(answer)) == (400, "invalid_request")


async def test_a_client_that_goes_while_it_sends_holds_nothing(served: Served) -> None:
    for _ in range(6):  # more than may be answered at a time
        _, writer = await asyncio.open_connection(*served.http.rsplit(":", 1))
        writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n{{".encode())
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.close()

    async with httpx.AsyncClient(base_url=f"http://{served.http}") as http:
        await status_becomes(http, "POST", CHAT, 200)


async def status_becomes(http: httpx.AsyncClient, method: str, path: str, status: int) -> httpx.Response:
    """The first answer of this status, soon."""
    async with asyncio.timeout(10):
        while True:
            answer = await http.request(method, path, json=BODY)
            if answer.status_code == status:
                return answer
            await asyncio.sleep(0.02)


async def test_health_follows_the_services(vision: FakeVision, llm: FakeLlm) -> None:
    async with (
        serving(vision) as vision_address,
        serving(llm) as llm_address,
        gateway_with(gateway_settings(vision_address, llm_address, http_port=0)) as served,
        httpx.AsyncClient(base_url=f"http://{served.http}") as http,
    ):
        assert (await http.get("/health")).status_code == 200
        vision.info.fingerprint = "e" * 64
        answer = await status_becomes(http, "GET", "/health", 503)
        assert answer.json() == {"status": "unavailable", "reason": "MODEL_MISMATCH"}
        answer = await http.post(CHAT, json=BODY)
        assert (answer.status_code, code(answer)) == (503, "model_mismatch")


async def test_metrics_count_calls_by_route_and_not_by_what_clients_write(http: httpx.AsyncClient) -> None:
    await http.get("/v1/models/whatever-a-client-writes")
    await http.post(CHAT, json=BODY)
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'internvl_calls_total{method="/v1/chat/completions",reason="",status="200"}' in answer.text
    assert 'method="/v1/models/{model:path}",reason="MODEL_NOT_FOUND",status="404"' in answer.text
    assert "whatever" not in answer.text


async def test_the_public_port_has_no_metrics_unless_asked(vision: FakeVision, llm: FakeLlm) -> None:
    async with (
        serving(vision) as vision_address,
        serving(llm) as llm_address,
        gateway_with(gateway_settings(vision_address, llm_address, http_port=0, http_metrics=False)) as served,
        httpx.AsyncClient(base_url=f"http://{served.http}") as http,
    ):
        assert (await http.get("/metrics")).status_code == 404


@pytest.mark.parametrize("path", ["/v1/models", "/health", CHAT])
async def test_both_spellings_of_a_path_are_served_and_none_redirects(http: httpx.AsyncClient, path: str) -> None:
    for spelling in (path, f"{path}/"):
        answer = await (http.post(spelling, json=BODY) if path == CHAT else http.get(spelling))
        assert answer.status_code == 200
    other = await http.get("/v1/no/such/path/", headers={"host": "evil.example"})
    assert (other.status_code, "location" in other.headers) == (404, False)


async def test_refusals_before_any_handler_have_a_request_id(http: httpx.AsyncClient) -> None:
    for answer in (await http.get("/nothing"), await http.delete(CHAT)):
        assert answer.status_code in (404, 405)
        assert answer.headers["x-request-id"]


async def test_two_authorizations_are_refused(http: httpx.AsyncClient, served: Served) -> None:
    twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")]
    answer = await http.get("/v1/models", headers=twice)
    assert (answer.status_code, code(answer)) == (401, "key_unknown")
    async with grpc.aio.insecure_channel(served.grpc) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetModelInfo(chat_pb2.GetModelInfoRequest(), metadata=tuple(twice))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_pages_of_named_origins_may_call_it(vision: FakeVision, llm: FakeLlm) -> None:
    async with (
        serving(vision) as vision_address,
        serving(llm) as llm_address,
        gateway_with(
            gateway_settings(vision_address, llm_address, http_port=0, http_origins="https://a.example")
        ) as served,
        httpx.AsyncClient(base_url=f"http://{served.http}") as http,
    ):
        origin = {"origin": "https://a.example"}
        asked = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        allowed = await http.options(CHAT, headers=asked)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://a.example")
        for body in (BODY, {**BODY, "stream": True}, {**BODY, "model": "other"}):
            answer = await http.post(CHAT, json=body, headers=origin)
            assert answer.headers["access-control-allow-origin"] == "https://a.example"
        stranger = await http.post(CHAT, json=BODY, headers={"origin": "https://b.example"})
        assert "access-control-allow-origin" not in stranger.headers


async def test_a_body_that_does_not_come_takes_no_slot(served: Served, http: httpx.AsyncClient) -> None:
    """More half-sent requests than there are slots, and another caller is answered."""
    host, _, port = served.http.rpartition(":")
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"
    writers = []
    for _ in range(12):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode())
        await writer.drain()
        writers.append(writer)
    assert (await http.post(CHAT, json=BODY)).status_code == 200
    for writer in writers:
        writer.close()


async def test_request_ids_and_traces_go_through(http: httpx.AsyncClient, llm: FakeLlm) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    answer = await http.post(CHAT, json=BODY, headers={"x-request-id": "mine", "traceparent": trace})
    assert answer.headers["x-request-id"] == "mine"
    assert llm.metadata[-1]["x-request-id"] == "mine"
    assert llm.metadata[-1]["traceparent"] == trace
    assert len((await http.get("/health")).headers["x-request-id"]) == 32


async def test_keys(vision: FakeVision, llm: FakeLlm, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(
        f"[tenants.one]\n[tenants.narrow]\nconcurrent_requests = 1\n"
        f'[keys]\n{key_digest("ivl_one")} = "one"\n{key_digest("ivl_narrow")} = "narrow"\n'
    )
    async with (
        serving(vision) as vision_address,
        serving(llm) as llm_address,
        gateway_with(gateway_settings(vision_address, llm_address, http_port=0, key_file=path)) as served,
        httpx.AsyncClient(base_url=f"http://{served.http}") as http,
    ):
        assert (await http.get("/health")).status_code == 200
        for method, target in (("POST", CHAT), ("GET", "/v1/models"), ("GET", f"/v1/models/{MODEL}")):
            answer = await http.request(method, target, content=b"never read")
            assert (answer.status_code, code(answer)) == (401, "key_missing")
            assert answer.headers["www-authenticate"] == "Bearer"
        answer = await http.post(CHAT, json=BODY, headers={"authorization": "Bearer ivl_nobody"})
        assert (answer.status_code, code(answer)) == (401, "key_unknown")
        answer = await http.post(CHAT, json=BODY, headers={"authorization": "Bearer ivl_one"})
        assert answer.status_code == 200
        assert llm.requests[-1].tenant == "one"
        answer = await http.post(CHAT, json=BODY | {"n": 2}, headers={"authorization": "Bearer ivl_narrow"})
        assert (answer.status_code, code(answer)) == (429, "rate_limited")
        assert "retry-after" in answer.headers


async def test_tls(vision: FakeVision, llm: FakeLlm, tmp_path: Path) -> None:
    files = write_certificate(tmp_path, trustme.CA())
    async with (
        serving(vision) as vision_address,
        serving(llm) as llm_address,
        gateway_with(
            gateway_settings(
                vision_address, llm_address, http_port=0, tls_certificate=files.certificate, tls_key=files.key
            )
        ) as served,
    ):
        context = ssl.create_default_context(cafile=files.authority)
        async with httpx.AsyncClient(base_url=f"https://{served.http}", verify=context) as http:
            assert (await http.post(CHAT, json=BODY)).status_code == 200


async def test_replies_in_flight_end_when_the_gateway_drains(served: Served, llm: FakeLlm) -> None:
    llm.gate = asyncio.Event()
    async with httpx.AsyncClient(base_url=f"http://{served.http}", timeout=10) as http:
        asked = asyncio.create_task(http.post(CHAT, json=BODY))
        await llm.reached.wait()
        served.stopping.set()
        async with asyncio.timeout(10):
            while True:
                try:
                    async with httpx.AsyncClient() as another:
                        await another.get(f"http://{served.http}/health")
                except httpx.TransportError:
                    break
                await asyncio.sleep(0.02)
        llm.gate.set()
        answer = await asked
    assert json.loads(answer.content)["choices"][0]["message"]["content"] == "two circles"
