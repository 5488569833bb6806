"""Report on a checkpoint, read without its weights, and every reason for which a service would refuse it.

The reasons are the services' own errors, from the same functions: what is printed here is what they print.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig

from deploy.sizing import memory
from deploy.sizing.family import size_of
from llm_service.model.loading import empty_decoder
from llm_service.model.ranks.ranks import Ranks
from llm_service.model.rotary import Rotary
from llm_service.prompt import PromptBuilder
from shared.checkpoint.config import DEFAULT_SYSTEM_MESSAGE, ModelConfig
from shared.checkpoint.language import quantisation
from shared.checkpoint.tokenizer import load_tokenizer
from shared.checkpoint.weights import LANGUAGE_PREFIXES, VISION_PREFIXES, Checkpoint
from vision_service.model.loading import empty_encoder

Found = TypeVar("Found")
_LAYOUTS = {"original": "OpenGVLab's (llm_config)", "hf": "transformers' (text_config)"}


@dataclass
class Report:
    """Facts by name, and reasons against serving it."""

    facts: dict[str, str] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    def attempt(self, step: Callable[[], Found]) -> Found | None:
        """The step's result, or its error among the refusals."""
        try:
            return step()
        except ValueError as error:
            if str(error) not in self.refusals:
                self.refusals.append(str(error))
            return None


def report_of(folder: Path, *, has_weights: bool = True) -> Report:
    """Reads config.json, the tokenizer's files and the headers of weights. `has_weights`: whether these are there."""
    report = Report()
    checkpoint = report.attempt(lambda: Checkpoint.from_folder(folder)) if has_weights else None
    config = report.attempt(lambda: ModelConfig.from_folder(folder))
    if config is not None:
        _describe_config(report, config)
    if checkpoint is not None:
        _describe_weights(report, checkpoint, config)
    if (tokenizer := report.attempt(lambda: load_tokenizer(folder))) is not None:
        _describe_tokenizer(report, tokenizer, folder)
    if config is not None and checkpoint is not None:
        report.attempt(lambda: empty_encoder(checkpoint, config))
        report.attempt(lambda: empty_decoder(checkpoint, config, torch.bfloat16, Ranks()))
        report.attempt(lambda: _describe_memory(report, checkpoint, config))
    return report


def _describe_config(report: Report, config: ModelConfig) -> None:
    vision, language = config.vision, config.language
    size = size_of(config)
    report.facts["model"] = f"InternVL3-{size}" if size else "no released size of InternVL3"
    report.facts["vision"] = (
        f"InternViT, {vision.layer_count} layers of {vision.hidden_size}, {vision.norm}, "
        f"tiles of {config.tile_size} pixels and {config.tokens_per_tile} tokens"
    )
    heads = language["num_attention_heads"]
    report.facts["language"] = (
        f"{language['model_type']}, {language['num_hidden_layers']} layers of {language['hidden_size']}, "
        f"{heads} heads, {language.get('num_key_value_heads', heads)} of keys and values"
    )
    report.facts["layout"] = _LAYOUTS[config.layout]
    report.facts["quantised"] = quantisation(language) or "no"
    thumbnail = "and a thumbnail" if config.use_thumbnail else "no thumbnail"
    report.facts["tiling"] = (
        f"{config.min_tile_count} to {config.max_tile_count} tiles {thumbnail}, from {config.tiling_source}"
    )
    report.facts["V2PE"] = f"default increment {config.position_increment:g}"
    report.facts["system message"] = "the template's" if config.system_message == DEFAULT_SYSTEM_MESSAGE else "its own"
    if (rotary := report.attempt(lambda: _rotary(config))) is not None:
        ntk = f"dynamic NTK with factor {rotary.ntk_factor:g}" if rotary.ntk_factor > 1 else "plain"
        report.facts["rotary"] = f"{ntk}, base {rotary.theta:g}, trained window {rotary.window} positions"


def _rotary(config: ModelConfig) -> Rotary:
    fields = dict(config.language)
    fields.pop("quantization_config", None)
    return Rotary.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields))


def _describe_weights(report: Report, checkpoint: Checkpoint, config: ModelConfig | None) -> None:
    total = checkpoint.byte_count("")
    dtypes = ", ".join(checkpoint.dtypes(""))
    report.facts["weights"] = f"{checkpoint.file_count} file(s), {total / 1e9:.2f} GB, {dtypes}"
    counts = [checkpoint.parameter_count(*prefixes) for prefixes in (VISION_PREFIXES, LANGUAGE_PREFIXES)]
    report.facts["parameters"] = f"{sum(counts):,}: {counts[0]:,} of vision and projector, {counts[1]:,} of the decoder"
    if checkpoint.has_head:
        report.facts["head"] = "its own"
    elif config is not None and config.is_tied:
        report.facts["head"] = "tied to the embedding"


def _describe_tokenizer(report: Report, tokenizer: Tokenizer, folder: Path) -> None:
    files = (
        "tokenizer.json" if (folder / "tokenizer.json").is_file() else "vocab.json, merges.txt and added_tokens.json"
    )
    report.facts["tokenizer"] = f"{tokenizer.get_vocab_size():,} tokens, from {files}"
    report.attempt(lambda: PromptBuilder(tokenizer, ""))


def _describe_memory(report: Report, checkpoint: Checkpoint, config: ModelConfig) -> None:
    for device in memory.devices():
        needs = [memory.vision_need(checkpoint, config, device), memory.llm_need(checkpoint, config)]
        report.facts["vision service takes"], report.facts["LLM service takes"] = map(str, needs)
        report.facts[device.name] = memory.fits(device, needs)
    report.facts["cache"] = (
        f"{memory.cached_tokens(config):,} tokens in the {memory.GIB >> 30} GiB of the default setting"
    )
