"""Settings of the LLM service: `internvl-llm --help`, or INTERNVL_LLM_... in the environment."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from shared.serving.settings import ModelSettings, PeerSettings

_TORCH_ONLY = ("weights", "threads", "attention")
_VLLM_ONLY = ("pipeline_parallel", "max_request_tokens", "vllm_arguments")


class LlmSettings(PeerSettings, ModelSettings):
    """Settings of the LLM service."""

    model_config = SettingsConfigDict(env_prefix="INTERNVL_LLM_")
    service: ClassVar[str] = "llm"

    port: int = 50052
    """Port to listen on; 0 lets the system choose."""
    engine: Literal["torch", "vllm"] = "torch"
    """torch (this package's own) or vllm (vLLM's, where the extra [vllm] is installed)."""
    tensor_parallel: int = 1
    """GPUs the model is spread over, on this machine; each runs in a process of its own."""
    pipeline_parallel: int = 1
    """Stages that the model's layers are spread over, each of `tensor_parallel` GPUs; vllm only."""
    weights: Literal["stored", "int8"] = "stored"
    """stored (as `dtype` says) or int8: the layers' weights in 8 bits, a scale for each row."""
    threads: int = 0
    """CPU threads of the model, or of each of its processes; 0 leaves it to PyTorch."""
    cache_bytes: int = 1 << 30
    """Memory for keys and values, on each GPU."""
    attention: Literal["auto", "flash", "native", "sdpa"] = "auto"
    """flash (flash-attn), native (this package's, for a CPU in bfloat16), sdpa (PyTorch's), or auto: the first of them
    that runs; vllm has its own."""
    page_size: int = 0
    """Tokens of one page of the cache; 0: 256 with flash (of which it is a multiple), else 16; vllm has its choice."""
    tokens_per_step: int = 512
    """Most tokens of one step: larger is faster for long prompts, smaller is smoother for those that decode."""
    max_running: int = 64
    """Most requests in one step."""
    max_waiting: int = 256
    """Most requests that have not started; beyond that, RESOURCE_EXHAUSTED."""
    step_seconds: float = Field(default=120.0, gt=0)
    """How long one step may take, the first five times as long; beyond that the device hangs and the process ends."""
    default_max_tokens: int = 1024
    """Tokens of a reply whose request names no limit."""
    max_positions: int = 0
    """Most positions of prompt and reply; past the trained window (the default) requests without V2PE run with dynamic
    NTK, where the model is configured for it."""
    max_request_tokens: int = 0
    """Most tokens of prompt and reply, which V2PE lets exceed their positions; vllm only. 0: four times the trained
    window, or what the cache holds if that is less."""
    vllm_arguments: dict[str, Any] = {}  # noqa: RUF012  pydantic copies it
    """More of vLLM's engine arguments by vLLM's names, as JSON: {"quantization": "fp8"}."""
    default_increment: float | None = None
    """Position increment of images whose request names none; unset: the checkpoint's, 1 in the released models."""
    holder_seconds: float = Field(default=5.0, gt=0)
    """How long a vision replica that is asked for an embedding may stay silent; then the image is encoded again."""
    embedding_seconds: float = 24 * 3600.0
    """Life of an embedding since its last use; the same as the vision service's."""

    @model_validator(mode="after")
    def _settings_are_the_engines(self) -> Self:
        """Refuses settings that the chosen engine would ignore."""
        others = _TORCH_ONLY if self.engine == "vllm" else _VLLM_ONLY
        strangers = [name for name in others if getattr(self, name) != type(self).model_fields[name].default]
        if strangers:
            raise ValueError(f"engine={self.engine} does not take {', '.join(strangers)}")
        return self
