"""A decoder of vLLM's registry that rotates by V2PE's positions and takes visual tokens as embeddings.

Runs in vLLM's worker processes. The vision tower and the projector do not exist here: of the checkpoint only the
language tensors are read, under the names both layouts have in `shared.checkpoint.weights`.

Legend: T tokens of a step, D head dim, E hidden size.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import SupportsMRoPE, SupportsMultiModal, SupportsPP
from vllm.model_executor.models.utils import init_vllm_registered_model, maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.multimodal.processing import BaseDummyInputsBuilder, BaseMultiModalProcessor, BaseProcessingInfo
from vllm.sequence import IntermediateTensors

from llm_service.engine.vllm.positions import position_rows, split_rows
from llm_service.model.rotary import Rotary, Rotation
from llm_service.positions import VisualSpan
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import LANGUAGE_PREFIXES, Checkpoint


class V2peRotation(nn.Module):
    """Stands where a layer of vLLM has its rotary embedding. Positions may be fractions, angles are float32."""

    def __init__(self, rotary: Rotary) -> None:
        super().__init__()
        self._rotary = rotary

    def forward(self, rows: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """rows (3, T), query and key (T, heads * D)."""
        positions, ntk_lengths = split_rows(rows)
        angles = positions[:, None] * self._rotary.frequencies(ntk_lengths)
        angles = torch.cat([angles, angles], dim=-1)
        rotation = Rotation(angles.cos().to(query.dtype), angles.sin().to(query.dtype))
        return self._rotate(rotation, query), self._rotate(rotation, key)

    def _rotate(self, rotation: Rotation, heads: torch.Tensor) -> torch.Tensor:
        return rotation.apply(heads.view(len(heads), -1, self._rotary.head_dim)).flatten(-2)


class ProcessingInfo(BaseProcessingInfo):
    """Answers to vLLM before it has seen a request. Prompts reach it finished, so there is nothing to process."""

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {"image": None}

    def get_supported_mm_processor_kwargs(self) -> dict[str, set[str]]:
        return {}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        """An image may fill the whole prompt."""
        return {"image": seq_len}


class DummyInputs(BaseDummyInputsBuilder[ProcessingInfo]):
    """For an encoder's memory, of which there is none."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        return ""

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any) -> dict[str, Any]:
        return {}


class Processor(BaseMultiModalProcessor[ProcessingInfo]):
    """Never given anything to process."""

    requires_tokenizer = False

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Any) -> dict[str, Any]:
        return {}

    def _get_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Any, out_mm_kwargs: Any) -> list[Any]:
        return []


@MULTIMODAL_REGISTRY.register_processor(Processor, info=ProcessingInfo, dummy_inputs=DummyInputs)
class InternvlDecoder(nn.Module, SupportsMultiModal, SupportsMRoPE, SupportsPP):
    """The architecture of the configuration that `options` writes."""

    packed_modules_mapping = {  # noqa: RUF012  vLLM reads and changes it as an attribute of the class
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        own = vllm_config.model_config.hf_config
        self._folder = Path(vllm_config.model_config.model)
        decoder = copy(own)
        decoder.max_position_embeddings = own.v2pe["window"]  # for tables that our rotation replaces
        with self._mark_language_model(vllm_config):  # type: ignore[operator]  # vLLM's, which types are checked without
            self.language_model: Any = init_vllm_registered_model(
                vllm_config,
                hf_config=decoder,
                prefix=maybe_prefix(prefix, "language_model"),
                architectures=[own.v2pe["decoder"]],
            )
        rotary = Rotary(own.v2pe["theta"], own.v2pe["head_dim"], own.v2pe["window"], own.v2pe["ntk_factor"])
        replaced = [module for module in self.language_model.modules() if hasattr(module, "rotary_emb")]
        for module in replaced:
            module.rotary_emb = V2peRotation(rotary)
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    def get_mrope_input_positions(
        self, input_tokens: list[int], mm_features: list[MultiModalFeatureSpec]
    ) -> tuple[torch.Tensor, np.int64]:
        """Rows (3, T) of a prompt and the reply it already has."""
        spans, ntk_length = [], 0
        for feature in mm_features:
            if "increment" in feature.data:
                start, count = feature.mm_position.offset, feature.mm_position.length
                spans.append(VisualSpan(start, count, int(feature.data["increment"].data)))
            if "ntk_length" in feature.data:
                ntk_length = int(feature.data["ntk_length"].data)
        return position_rows(len(input_tokens), spans, ntk_length)

    def embed_multimodal(self, *, image_embeds: Sequence[torch.Tensor], **_: object) -> tuple[torch.Tensor, ...]:
        """Rows (R, E) of each image: they are what came."""
        return tuple(image_embeds)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **_: object,
    ) -> torch.Tensor | IntermediateTensors:
        """Hidden states (T, E), or what the next pipeline stage takes."""
        embeds = inputs_embeds if intermediate_tensors is None else None
        hidden: torch.Tensor | IntermediateTensors = self.language_model.model(
            input_ids, positions, intermediate_tensors, embeds
        )
        return hidden

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        logits: torch.Tensor | None = self.language_model.compute_logits(hidden_states)
        return logits

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Reads the language tensors and no others. vLLM's own iterator, which would read all, is not touched."""
        prefix = LANGUAGE_PREFIXES[0]
        is_tied = ModelConfig.from_folder(self._folder).is_tied
        tensors = Checkpoint.from_folder(self._folder).with_head(is_tied=is_tied).tensors(prefix)
        loaded = self.language_model.load_weights((name.removeprefix(prefix), tensor) for name, tensor in tensors)
        return {prefix + name for name in loaded}
