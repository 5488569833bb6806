"""The demo stack as an operator secures it: keys, mTLS between all processes, tenants apart.

Real processes, certificates of a real authority; asked by the Python client, by the command line, and by a client in
another language (`buf curl`, written in Go).
"""

import asyncio
import base64
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import trustme
from google.rpc import error_details_pb2

from deploy.local.launcher import PROGRAMS
from deploy.local.options import DEMO_MODEL
from deploy.local.process import Child
from gateway.tenancy.key_file import key_digest
from internvl.client import (
    ChatClient,
    Finished,
    Image,
    Sampling,
    Started,
    TlsFiles,
    Video,
    Visual,
    follow,
    user,
)
from internvl.client.messages import Part
from internvl.errors import BackendUnavailable, KeyUnknown, MediaExpired
from shared.content import content_digest, media_id
from tests.support.certificates import write_certificate
from tests.support.pictures import clip_of
from tests.support.redis import RedisProcess
from tests.support.samples import digit

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
KEYS = {"one": "ivl_of_one", "other": "ivl_of_other"}
PAGE_TOKENS = 16
TRACE = "0af7651916cd43dd8448eb211c80319c"
ROOT = Path(__file__).parents[2]


@dataclass
class Secured:
    address: str
    client_tls: TlsFiles
    folder: Path
    redis: RedisProcess

    def client(self, tenant: str) -> ChatClient:
        return ChatClient(self.address, api_key=KEYS[tenant], tls=self.client_tls)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    inside, public = trustme.CA(), trustme.CA()
    files = {name: write_certificate(folder / name, inside) for name in ("vision", "llm", "gateway")}
    public_files = write_certificate(folder / "public", public)
    client = write_certificate(folder / "client", public, "someone")
    keys = folder / "keys.toml"
    digests = "".join(f'{key_digest(key)} = "{tenant}"\n' for tenant, key in KEYS.items())
    keys.write_text("".join(f"[tenants.{tenant}]\n" for tenant in KEYS) + f"[keys]\n{digests}")
    redis = RedisProcess()
    redis.start()
    async with AsyncExitStack() as stack:
        stack.callback(redis.close)

        async def start(name: str, *flags: str) -> Child:
            command = (*PROGRAMS[name], "--port", "0", *flags)
            prefix = f"INTERNVL_{name.upper()}_"
            environment = {} if name == "gateway" else {f"{prefix}REDIS_URL": redis.url}
            child = await Child.start(name, command, log_folder=folder, environment=environment)
            stack.push_async_callback(child.stop, 5.0)
            return child

        model = ("--model", str(DEMO_MODEL), "--log-level", "debug")
        vision = await start("vision", *model, *server_flags(files["vision"]))
        llm = await start("llm", *model, *server_flags(files["llm"]), *peer_flags(files["llm"]))
        await vision.ready()
        await llm.ready()
        gateway = await start(
            "gateway",
            *("--vision-address", vision.address, "--llm-address", llm.address, "--log-level", "debug"),
            *("--key-file", str(keys), *server_flags(public_files), *peer_flags(files["gateway"])),
        )
        await gateway.ready()
        found = Secured(gateway.address, client, folder, redis)
        await answers(found)
        yield found


def server_flags(files: TlsFiles) -> tuple[str, ...]:
    wanted = {"--tls-certificate": files.certificate, "--tls-key": files.key, "--tls-client-ca": files.authority}
    return tuple(word for flag, path in wanted.items() for word in (flag, str(path)))


def peer_flags(files: TlsFiles) -> tuple[str, ...]:
    wanted = {"--peer-certificate": files.certificate, "--peer-key": files.key, "--peer-ca": files.authority}
    return tuple(word for flag, path in wanted.items() for word in (flag, str(path)))


async def answers(secured: Secured) -> None:
    async with secured.client("one") as client, asyncio.timeout(30):
        while True:
            try:
                await client.model_info()
                return
            except BackendUnavailable:
                await asyncio.sleep(0.05)


async def ask(client: ChatClient, *parts: Part) -> tuple[Started, Finished]:
    one_token, one_tile = Sampling(max_tokens=1), Visual(max_tile_count=1)
    return await follow(client.chat([user(*parts)], sampling=one_token, visual=one_tile), lambda _: None)


async def test_whatever_two_tenants_do_neither_finds_what_is_the_others(secured: Secured, tmp_path: Path) -> None:
    """Random steps against a model of what each tenant sent: ids, embeddings and reused keys and values."""
    dice = random.Random(0)
    picture = digit().pictures[0].read_bytes()
    files: dict[bytes, type[Image] | type[Video]] = {picture + bytes([index]): Image for index in range(3)}
    files[clip_of(tmp_path / "clip.mp4", 3)] = Video
    sent: set[tuple[str, bytes]] = set()
    encoded: set[tuple[str, bytes]] = set()
    async with secured.client("one") as one, secured.client("other") as other:
        clients = {"one": one, "other": other}
        for _ in range(60):
            tenant, data = dice.choice(list(clients)), dice.choice(list(files))
            client, kind = clients[tenant], files[data]
            match dice.choice(["upload", "bytes", "own id", "another's id"]):
                case "upload":
                    identifier = await client.upload(data, "image" if kind is Image else "video")
                    assert identifier == media_id(tenant, content_digest(data))
                    sent.add((tenant, data))
                    continue
                case "bytes":
                    part = kind(data)
                case "own id":
                    part = kind(id=media_id(tenant, content_digest(data)))
                case _:
                    stranger = next(name for name in clients if name != tenant)
                    with pytest.raises(MediaExpired):
                        await ask(client, kind(id=media_id(stranger, content_digest(data))))
                    continue
            if part.data is None and (tenant, data) not in sent:
                with pytest.raises(MediaExpired):
                    await ask(client, part)
                continue
            started, finished = await ask(client, part)
            assert started.media[0].embedding_cached == ((tenant, data) in encoded)
            if tenant not in {name for name, _ in encoded}:
                assert finished.usage.cached_token_count == 0, "not even the text before the picture"
            elif (tenant, data) not in encoded:
                assert finished.usage.cached_token_count <= PAGE_TOKENS, "only the page of text before the picture"
            sent.add((tenant, data))
            encoded.add((tenant, data))
    assert len(encoded) == 8, "every file was shown by both"


async def test_ids_of_a_request_are_in_every_services_log(secured: Secured) -> None:
    body = json.dumps(
        {
            "messages": [{"role": "ROLE_USER", "parts": [{"text": "Who are you?"}]}],
            "sampling": {"maxTokens": 2},
        }
    )
    headers = ("-H", "x-request-id: from-go", "-H", f"traceparent: 00-{TRACE}-b7ad6b7169203331-01")
    output = await buf_curl(secured, "internvl.chat.v1.ChatService/Chat", body, KEYS["one"], *headers)
    assert '"finished"' in output
    for service in ("gateway", "llm"):
        lines = [json.loads(line) for line in secured.log(service).splitlines() if "from-go" in line]
        assert lines, service
        assert {line["trace_id"] for line in lines} == {TRACE}


async def buf_curl(secured: Secured, method: str, body: str, key: str, *flags: str) -> str:
    """What a client that knows nothing but the .proto files gets."""
    tls = secured.client_tls
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).parent / "buf"), "curl", "--protocol", "grpc", "--schema", str(ROOT / "protos")),
        *("--cacert", str(tls.authority), "--cert", str(tls.certificate), "--key", str(tls.key)),
        *("-H", f"authorization: Bearer {key}", *flags, "-d", body, f"https://{secured.address}/{method}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode()


async def test_a_client_in_another_language_gets_our_reasons(secured: Secured) -> None:
    output = await buf_curl(secured, "internvl.chat.v1.ChatService/GetModelInfo", "{}", "ivl_nobodys")
    refusal = json.loads(output)
    assert refusal["code"] == "unauthenticated"
    (detail,) = refusal["details"]
    info = error_details_pb2.ErrorInfo.FromString(base64.b64decode(detail["value"] + "=="))
    assert (detail["type"], info.reason) == ("google.rpc.ErrorInfo", "KEY_UNKNOWN")
    output = await buf_curl(secured, "internvl.chat.v1.ChatService/GetModelInfo", "{}", KEYS["other"])
    assert json.loads(output)["info"]["hiddenSize"] > 0


async def test_the_command_line_with_key_and_certificate(secured: Secured) -> None:
    tls = secured.client_tls
    sample = digit()
    question, answer = sample.turns[0]
    pictures = [word for path in sample.pictures for word in ("--image", str(path))]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "internvl.cli", "ask", question, *pictures, "--address", secured.address),
        *("--tls-ca", str(tls.authority), "--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key)),
        env={"INTERNVL_CLI_API_KEY": KEYS["one"]},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert output.decode() == f"{answer}\n"


async def test_strangers_are_kept_out(secured: Secured) -> None:
    async with ChatClient(secured.address, api_key=KEYS["one"]) as in_the_clear:
        with pytest.raises(BackendUnavailable):
            await in_the_clear.model_info()
    without_certificate = TlsFiles(authority=secured.client_tls.authority)
    async with ChatClient(secured.address, api_key=KEYS["one"], tls=without_certificate) as client:
        with pytest.raises(BackendUnavailable):
            await client.model_info()
    async with ChatClient(secured.address, api_key="ivl_nobodys", tls=secured.client_tls) as client:
        with pytest.raises(KeyUnknown):
            await client.model_info()


async def test_without_redis_embeddings_come_from_their_maker_over_mtls(secured: Secured) -> None:
    await asyncio.to_thread(secured.redis.stop)
    async with secured.client("one") as client:
        started, _ = await ask(client, Image(digit().pictures[0].read_bytes() + b"late"))
    assert not started.media[0].embedding_cached
    assert "pulling an embedding from its holder" in secured.log("llm")


async def test_no_log_holds_a_key(secured: Secured) -> None:
    logs = {name: secured.log(name) for name in PROGRAMS}
    assert all('"call"' in log for log in logs.values())
    assert not [name for name, log in logs.items() if "ivl_" in log or "Bearer" in log]
