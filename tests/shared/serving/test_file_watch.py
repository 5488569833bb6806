"""A value follows its file; what is broken or gone changes nothing and is logged once."""

import logging
from pathlib import Path

import pytest

from shared.serving.file_watch import FileWatch


def whole_number(path: Path) -> int:
    return int(path.read_text())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


def test_a_changed_file_is_reloaded_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = FileWatch("number", [path], lambda: whole_number(path))
    assert not watch.reread()
    path.write_text("22")
    assert watch.reread()
    assert (watch.value, watch.reread()) == (22, False)
    assert [record.message for record in caplog.records] == ["number reloaded"]


@pytest.mark.parametrize("content", ["broken", None])
def test_a_broken_or_missing_file_is_rejected_once(
    path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    watch = FileWatch("number", [path], lambda: whole_number(path))
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert [watch.reread() for _ in range(3)] == [False] * 3
    assert watch.value == 1
    assert [record.message for record in caplog.records] == ["number rejected, keeping the previous one"]
    path.write_text("333")
    assert watch.reread()
    assert watch.value == 333


def test_a_file_that_is_broken_from_the_start_is_an_error(path: Path) -> None:
    path.write_text("broken")
    with pytest.raises(ValueError, match="broken"):
        FileWatch("number", [path], lambda: whole_number(path))
