"""Replies to many prompts at once, greedy or sampled, with a key-value cache.

Shapes: B prompts, L tokens of the longest, W tokens a reply may have, h heads, d width of a head.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model.network.forward import Cache, hidden_states, next_hidden_states, visual_tokens
from deploy.local.demo_model.network.packs import packed
from deploy.local.demo_model.talk import tokenizer as special
from deploy.local.demo_model.talk.examples import Example

MAX_TOKENS = 112


@torch.no_grad()
def replies(
    model: InternVLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Example],
    *,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[str]:
    """The reply to each prompt, without its <|im_end|>; the likeliest tokens where the temperature is 0."""
    pack = packed(prompts)
    cache = Cache.for_pack(model, pack, MAX_TOKENS)
    visual = visual_tokens(model, pack.tiles) if len(pack.tiles) else torch.empty(0)
    hidden = hidden_states(model, pack, visual, cache)
    ends = torch.tensor([end for _, end in pack.segments])
    hidden, positions = hidden[ends - 1], pack.positions[ends - 1]
    end_id = tokenizer.convert_tokens_to_ids(special.IM_END)
    assert isinstance(end_id, int)
    written = torch.empty(len(prompts), 0, dtype=torch.int64)
    for _ in range(MAX_TOKENS):
        chosen = _choose(model.lm_head(hidden), temperature, generator)
        written = torch.cat([written, chosen[:, None]], dim=1)
        if bool(torch.eq(written, end_id).any(1).all()):
            break
        positions = positions + 1
        hidden = next_hidden_states(model, chosen, positions, cache)
    return [_text(tokenizer, row, end_id) for row in written.tolist()]


def _choose(scores: torch.Tensor, temperature: float, generator: torch.Generator | None) -> torch.Tensor:
    if temperature == 0:
        return scores.argmax(-1)
    shares = functional.softmax(scores / temperature, dim=-1)
    return torch.multinomial(shares, 1, generator=generator)[:, 0]


def _text(tokenizer: PreTrainedTokenizerBase, token_ids: list[int], end_id: int) -> str:
    until = token_ids.index(end_id) if end_id in token_ids else len(token_ids)
    text = tokenizer.decode(token_ids[:until])
    assert isinstance(text, str)
    return text
