"""What an operator can set: `internvl-llm --help`, or INTERNVL_LLM_... in the environment."""

from typing import ClassVar, Literal

from pydantic_settings import SettingsConfigDict

from shared.settings import ModelSettings, PeerSettings


class LlmSettings(PeerSettings, ModelSettings):
    """Settings of the LLM service."""

    model_config = SettingsConfigDict(env_prefix="INTERNVL_LLM_")
    service: ClassVar[str] = "llm"

    port: int = 50052
    """Port to listen on; 0 lets the system choose."""
    tensor_parallel: int = 1
    """GPUs the model is spread over, on this machine; each runs in a process of its own."""
    weights: Literal["stored", "int8"] = "stored"
    """stored (as `dtype` says) or int8: the layers' weights in 8 bits, a scale for each row."""
    threads: int = 0
    """CPU threads of the model, or of each of its processes; 0 leaves it to PyTorch."""
    cache_bytes: int = 1 << 30
    """Memory for keys and values, on each GPU."""
    attention: Literal["auto", "sdpa", "flash"] = "auto"
    """auto (flash-attn where it is installed and runs, else sdpa), sdpa (PyTorch's) or flash."""
    page_size: int = 0
    """Tokens of one page of the cache; 0: 16 with sdpa, 256 with flash, which wants a multiple of that."""
    tokens_per_step: int = 512
    """Most tokens of one step: larger is faster for long prompts, smaller is smoother for those that decode."""
    max_running: int = 64
    """Most requests in one step."""
    max_waiting: int = 256
    """Most requests that have not started; beyond that, RESOURCE_EXHAUSTED."""
    default_max_tokens: int = 1024
    """Tokens of a reply whose request names no limit."""
    max_positions: int = 0
    """Most positions of prompt and reply; past the trained window (the default) requests without V2PE run with dynamic
    NTK, where the model is configured for it."""
    default_increment: float = 1.0
    """Position increment of images whose request names none; 1 as in the released models."""
    embedding_seconds: float = 24 * 3600.0
    """Life of an embedding since its last use; the same as the vision service's."""

    def dtype_name(self, device_type: str) -> str:
        """On a CPU 8-bit weights have fast kernels for bfloat16 alone."""
        is_free = self.dtype == "auto" and self.weights == "int8"
        return "bfloat16" if is_free else super().dtype_name(device_type)
