"""The fused layer computes what transformers' layers compute, for every decoder of the family."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from llm_service.model.attention.interface import PAGED_ATTENTION, PagedStep
from llm_service.model.cache import PagedCache
from llm_service.model.hardware import Hardware
from llm_service.model.language import DecoderUnsupported, LanguageModel
from llm_service.model.layer import FUSED_LAYERS, FusedLayer, TransformersLayer
from llm_service.model.ranks.ranks import Ranks
from llm_service.model.rotary import Rotary
from llm_service.model.step import StepInput

SHAPE = {
    "vocab_size": 64, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 512,
}  # fmt: skip
CONFIGS = [AutoConfig.for_model(name, **SHAPE) for name in ("qwen2", "qwen3", "internlm3")]
TOKENS = 7


def hardware(dtype: torch.dtype) -> Hardware:
    """PyTorch's kernels."""
    name = str(dtype).removeprefix("torch.")
    return Hardware.choose(torch.device("cpu"), dtype=name, kernels="pytorch", attention="sdpa")


def step_of(config: PretrainedConfig, dtype: torch.dtype) -> PagedStep:
    """One prompt of 5 tokens, and two sequences with one token each behind contexts of 6 and 3."""
    torch.manual_seed(1)
    cache = PagedCache(
        layer_count=1, page_count=5, page_size=4, head_count=2, head_dim=12, dtype=dtype, device=torch.device("cpu")
    )
    for stored in (*cache.keys, *cache.values):
        stored.copy_(torch.randn(stored.shape))
    step = StepInput(
        token_ids=torch.zeros(TOKENS, dtype=torch.int64),
        positions=torch.tensor([0, 0.25, 0.5, 1, 2, 5, 2.0]),
        slot_mapping=torch.tensor([0, 1, 2, 3, 4, 9, 14]),
        query_lens=torch.tensor([5, 1, 1]),
        seq_lens=torch.tensor([5, 6, 3]),
        page_tables=torch.tensor([[0, 1], [4, 2], [3, 0]], dtype=torch.int32),
        ntk_lengths=torch.tensor([0, 0, 0]),
        sampled_slots=torch.tensor([4, 5, 6]),
        visual_slots=torch.empty(0, dtype=torch.int64),
    )
    rotation = Rotary.from_config(config)(step.positions, step.ntk_lengths, step.query_lens, dtype)
    return PagedStep(cache, step.slot_mapping, rotation, hardware(dtype).attention.begin(step, 4))


def layer_of(config: PretrainedConfig, dtype: torch.dtype) -> torch.nn.Module:
    torch.manual_seed(0)
    decoder = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=PAGED_ATTENTION).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    layer: torch.nn.Module = decoder.model.layers[0]
    return layer


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06), (torch.float16, 0.008)], ids=str
)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_fused_equals_transformers(config: PretrainedConfig, dtype: torch.dtype, tolerance: float) -> None:
    layer = layer_of(config, dtype)
    assert isinstance(layer, FUSED_LAYERS)
    hidden = torch.randn(TOKENS, 48).to(dtype)
    with torch.inference_mode():
        plain = TransformersLayer(layer)(hidden, step_of(config, dtype))
        fused = FusedLayer(layer, hardware(dtype), Ranks())(hidden, step_of(config, dtype))
    torch.testing.assert_close(fused, plain, atol=tolerance, rtol=tolerance)


def test_sliding_windows_are_refused_and_not_ignored() -> None:
    config = AutoConfig.for_model("qwen2", **SHAPE, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    decoder = AutoModelForCausalLM.from_config(config, attn_implementation=PAGED_ATTENTION)
    with pytest.raises(DecoderUnsupported, match="sliding_attention"):
        LanguageModel(decoder, hardware(torch.float32))
