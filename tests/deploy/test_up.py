"""`internvl up`: faults are told before anything is loaded, and a stack with keys or TLS starts like any other."""

import asyncio
import re
import socket
import sys
from pathlib import Path

import pytest
import trustme

from deploy.local.launcher import PROGRAMS, Stack
from deploy.local.options import StackOptions
from deploy.local.process import LaunchError
from gateway.tenancy.key_file import key_digest
from internvl.client import ChatClient, TlsFiles
from internvl.errors import KeyMissing
from tests.support.certificates import write_certificate
from tests.support.wheels import clean_environment

FAKES = {
    "vision": (sys.executable, "-m", "tests.deploy.fake_service", "vision"),
    "llm": (sys.executable, "-m", "tests.deploy.fake_service", "llm"),
    "gateway": PROGRAMS["gateway"],
}
OPTIONS = StackOptions(model="anything", port=0, drain_seconds=2.0)


async def internvl_up(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a start that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "internvl.cli", "up", *arguments),
        env=clean_environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    return process.returncode or 0, errors.decode()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--model", "/no/such"), 1, "error: there is no folder /no/such"),
        (("--port", "0", "--set", "llm.weights=int9"), 1, "error: llm: weights: Input should be 'stored' or 'int8'"),
        (("--set", "llm.weigths=int8"), 2, "did you mean weights?"),
        (("--port", "0", "--key-file", "/no/such"), 1, "error: gateway: /no/such: No such file or directory"),
        (("--port", "0", "--redis-url", "nonsense"), 1, "error: vision: redis_url: redis_url must begin with one of"),
        (("--vllm", "/no/such"), 2, "there is no program /no/such"),
        (("--port", "0", "--set", "gateway.media_hosts=a/b"), 1, "error: gateway: not a host to fetch media from"),
    ],
)
async def test_a_fault_is_told_before_anything_is_started(arguments: tuple[str, ...], code: int, message: str) -> None:
    found, errors = await internvl_up("--http-port", "0", *arguments)
    assert found == code
    assert message in errors
    assert not re.search("Traceback|pydantic|starting$|[{}]", errors)


async def test_a_taken_port_is_told_after_the_first_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, errors = await internvl_up("--port", str(port))
    first, second = errors.splitlines()
    assert (code, first) == (1, "starting InternVL3-demo on this machine")
    assert second.startswith(f"error: 127.0.0.1:{port}: Address already in use; choose another port with --port")


async def test_a_stack_with_keys_starts(tmp_path: Path) -> None:
    key_file = tmp_path / "keys.toml"
    key_file.write_text(f'[tenants.acme]\n[keys]\n{key_digest("secret")} = "acme"\n')
    options = StackOptions(model="anything", port=0, drain_seconds=2.0, key_file=key_file)
    async with Stack(options, programs=FAKES) as stack:
        async with ChatClient(stack.address) as client:
            with pytest.raises(KeyMissing):
                await client.model_info()
        async with ChatClient(stack.address, api_key="secret") as client:
            assert (await client.model_info()).model == "InternVL3-test"


async def test_a_stack_with_tls_starts(tmp_path: Path) -> None:
    files = write_certificate(tmp_path / "gateway", trustme.CA())
    settings = {"gateway": {"tls_certificate": str(files.certificate), "tls_key": str(files.key)}}
    options = StackOptions(model="anything", port=0, drain_seconds=2.0, settings=settings)
    async with (
        Stack(options, programs=FAKES) as stack,
        ChatClient(stack.address, tls=TlsFiles(authority=files.authority)) as client,
    ):
        assert (await client.model_info()).model == "InternVL3-test"


async def test_services_of_different_checkpoints_are_told_apart() -> None:
    programs = FAKES | {"llm": (*FAKES["llm"], "e" * 64)}
    with pytest.raises(LaunchError, match="serve different checkpoints: fingerprint differ"):
        async with Stack(OPTIONS, programs=programs):
            pytest.fail("it must not start")
