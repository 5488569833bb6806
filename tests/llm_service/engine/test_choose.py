"""One setting chooses the engine, and settings that only the other engine knows are refused."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_service.engine.choose import running_engine
from llm_service.engine.pytorch.engine import TorchEngine
from llm_service.engine.vllm import environment
from llm_service.engine.vllm.environment import VllmUnusable
from llm_service.settings import LlmSettings


@pytest.mark.parametrize(
    ("engine", "changes", "named"),
    [
        ("vllm", {"weights": "int8"}, "weights"),
        ("vllm", {"attention": "flash", "threads": 3}, "threads, attention"),
        ("torch", {"pipeline_parallel": 2}, "pipeline_parallel"),
        ("torch", {"vllm_arguments": {"quantization": "fp8"}}, "vllm_arguments"),
        ("torch", {"max_request_tokens": 5}, "max_request_tokens"),
    ],
)
def test_settings_of_the_other_engine_are_refused(engine: str, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=f"engine={engine} does not take {named}"):
        LlmSettings(model="x", **({"engine": engine} | changes))


def test_vllms_arguments_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_LLM_VLLM_ARGUMENTS", '{"quantization": "fp8", "nnodes": 2}')
    settings = LlmSettings.from_command_line(["--model", "x", "--engine", "vllm"])
    assert settings.vllm_arguments == {"quantization": "fp8", "nnodes": 2}


async def test_torch_is_what_runs_unless_another_is_named(tiny_checkpoint: Path) -> None:
    settings = LlmSettings(model=str(tiny_checkpoint), device="cpu", threads=1, cache_bytes=1 << 20)
    async with running_engine(settings, tiny_checkpoint) as engine:
        assert isinstance(engine, TorchEngine)


async def test_without_vllm_its_engine_does_not_start(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "DISTRIBUTIONS", ("vllm-is-not-called-this",))
    settings = LlmSettings(model=str(tiny_checkpoint), engine="vllm")
    with pytest.raises(VllmUnusable, match="install internvl-serving"):
        async with running_engine(settings, tiny_checkpoint):
            pass
