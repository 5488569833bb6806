"""Faults that are said before anything is loaded, with what to do."""

import importlib.util
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local import preflight
from deploy.local.options import StackOptions
from deploy.local.process import LaunchError, ServiceDied

ANY_PORT = StackOptions(port=0)


def test_the_demo_can_be_started() -> None:
    preflight.check(ANY_PORT)


@pytest.mark.parametrize(("field", "flag"), [("port", "--port"), ("http_port", "--http-port")])
def test_a_taken_port_is_named_with_its_flag(field: str, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken_port = replace(ANY_PORT, port=port) if field == "port" else replace(ANY_PORT, http_port=port)
        with pytest.raises(LaunchError, match=f"127.0.0.1:{port}: Address already in use; .* with {flag}"):
            preflight.check(taken_port)


@pytest.mark.parametrize("model", ["/no/such/folder", "./nowhere", "~/nowhere-at-all", "nowhere", "a/b/c"])
def test_a_folder_that_is_not_there(model: str) -> None:
    with pytest.raises(LaunchError, match=f"there is no folder {model}"):
        preflight.check(replace(ANY_PORT, model=model))


def test_a_name_on_the_hub_is_left_to_the_services() -> None:
    preflight.check(replace(ANY_PORT, model="OpenGVLab/InternVL3-1B"))


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"has no config\.json"):
        preflight.check(replace(ANY_PORT, model=str(tmp_path)))


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="a GPU is there")
def test_weights_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(3 << 20)
    monkeypatch.setattr(preflight, "_free_bytes", lambda: 2 << 20)
    with pytest.raises(LaunchError, match="take 3 MiB, this machine has 2 MiB free"):
        preflight.check(replace(ANY_PORT, model=str(tmp_path)))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(preflight, "find_spec", lambda name: None if name in ("torch", "decord") else found(name))
    with pytest.raises(LaunchError, match=r"torch, decord not installed: pip install .*\[llm,vision\]"):
        preflight.check(ANY_PORT)


def test_the_last_words_of_a_service_are_its_cause() -> None:
    loading = '{"level": "INFO", "message": "loading"}'
    critical = '{"level": "CRITICAL", "message": "cannot serve", "cause": "no weights"}'
    assert str(ServiceDied("llm", 2, [loading, critical])) == "llm ended with exit code 2:\n  cannot serve: no weights"
    assert str(ServiceDied("llm", -9, [loading])) == "llm ended with exit code -9:\n  loading"
    assert str(ServiceDied("llm", 1, ["Traceback ...", "KeyError"])).endswith("  Traceback ...\n  KeyError")
