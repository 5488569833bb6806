"""A key names everything that decides what a compiler makes, and no compiler decides how anything is rounded."""

import platform
from pathlib import Path

import pytest

from llm_service.model.kernels import build as module
from llm_service.model.kernels.build import Build
from tests.support.kernels import FUSED


def test_a_key_is_the_same_for_the_same_and_another_for_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Build().key()
    assert Build().key() == key
    assert len({build.key() for build in FUSED} | {Build(tune="icelake-server").key()}) == len(FUSED) + 1
    monkeypatch.setattr(module, "_FLAGS", (*module._FLAGS, "-O2"))
    assert Build().key() != key
    monkeypatch.undo()
    monkeypatch.setenv("CXX", "c++ -DNDEBUG")
    assert Build().key() != key


@pytest.mark.parametrize("name", ["native.cpp", "attention.h"])
def test_a_changed_source_has_another_key(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for source in (*module._FOLDER.glob("*.h"), module._SOURCE):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(module, "_FOLDER", tmp_path)
    monkeypatch.setattr(module, "_SOURCE", tmp_path / "native.cpp")
    key = Build().key()
    (tmp_path / name).write_text((tmp_path / name).read_text() + "// changed\n")
    assert Build().key() != key


@pytest.mark.skipif(platform.machine() != "x86_64", reason="targets of another kind of processor")
@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_products_are_fused_by_an_instruction_and_not_by_a_call(target: str, tmp_path: Path) -> None:
    """Also for processors that are not at hand."""
    Build(target).compile(tmp_path / "native.so")
    code = (tmp_path / "native.so").read_bytes()
    assert b"native_attend" in code, "names of functions lie in a library"
    assert b"fmaf" not in code
    assert [path.name for path in tmp_path.iterdir()] == ["native.so"]
