"""Settings in vLLM's words, and the configuration it reads in place of the checkpoint's: the decoder's alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from llm_service.engine.vllm.plugin import ARCHITECTURE
from llm_service.engine.vllm.positions import ROW_COUNT
from llm_service.model.rotary import Rotary
from shared.checkpoint.config import ModelConfig

SPAN = 4
"""Trained windows that one request's tokens may fill where no limit is named: V2PE saves positions, not tokens."""


@dataclass(frozen=True)
class VllmOptions:
    """Names are those of the settings where there is one."""

    folder: Path
    dtype: str
    tensor_parallel: int
    pipeline_parallel: int
    page_size: int
    """0: vLLM's choice."""
    cache_bytes: int
    """Memory for keys and values on each GPU."""
    tokens_per_step: int
    max_running: int
    max_waiting: int
    max_positions: int
    """0: those of the trained window."""
    step_seconds: float
    """How long vLLM may be silent while it has requests."""
    max_request_tokens: int
    """Tokens of prompt and reply; 0: SPAN trained windows. Never more than the cache holds."""
    vllm_arguments: Mapping[str, Any] = field(default_factory=dict)
    """More of vLLM's engine arguments, by vLLM's names."""

    def configuration(self) -> dict[str, Any]:
        """config.json for vLLM. Raises ValueError for a decoder that cannot be served."""
        config = ModelConfig.from_folder(self.folder)
        language = dict(config.language)
        rotary = Rotary.from_config(AutoConfig.for_model(language["model_type"], **without(language, "model_type")))
        if self.max_positions > rotary.window and rotary.ntk_factor <= 1:
            raise ValueError("max_positions is past the trained window, and the model has no dynamic NTK to go there")
        half = rotary.head_dim // 2
        sections = [half // ROW_COUNT] * (ROW_COUNT - 1)
        return {
            **without(language, "rope_scaling", "rope_theta"),
            "architectures": [ARCHITECTURE],
            "max_position_embeddings": self.max_request_tokens or SPAN * max(rotary.window, self.max_positions),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": rotary.theta,
                "mrope_section": [*sections, half - sum(sections)],  # switches M-RoPE on; the rotation is ours
            },
            "v2pe": {
                "decoder": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[language["model_type"]],
                "theta": rotary.theta,
                "head_dim": rotary.head_dim,
                "window": rotary.window,
                "ntk_factor": rotary.ntk_factor,
            },
        }

    def arguments(self, configuration_folder: Path) -> dict[str, Any]:
        """vLLM's engine arguments, with `configuration` in the folder. Raises ValueError for names that are ours."""
        (configuration_folder / "config.json").write_text(json.dumps(self.configuration()))
        own = {
            "model": str(self.folder),
            "hf_config_path": str(configuration_folder),
            "skip_tokenizer_init": True,
            "generation_config": "vllm",
            "dtype": self.dtype,
            "max_model_len": -1,  # max_position_embeddings, or what the cache holds
            "tensor_parallel_size": self.tensor_parallel,
            "pipeline_parallel_size": self.pipeline_parallel,
            "kv_cache_memory_bytes": self.cache_bytes,
            "max_num_batched_tokens": self.tokens_per_step,
            "max_num_seqs": self.max_running,
            "enable_prefix_caching": True,
            "enable_chunked_prefill": True,
            "enable_mm_embeds": True,
            "limit_mm_per_prompt": {"image": 0},
            "mm_processor_cache_gb": 0,  # on a hit it would drop the increments
            "logits_processors": ["llm_service.engine.vllm.sampling:ReplayableSampling"],
            "disable_log_stats": True,
        }
        if self.page_size:
            own["block_size"] = self.page_size
        if taken := sorted(own.keys() & self.vllm_arguments.keys()):
            raise ValueError(f"vllm_arguments may not hold {', '.join(taken)}: they follow from other settings")
        return own | dict(self.vllm_arguments)


def without(mapping: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """A copy that lacks the keys."""
    return {key: value for key, value in mapping.items() if key not in keys}
