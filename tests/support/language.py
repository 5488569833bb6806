"""A tiny random decoder, as the engine runs it and as transformers does."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from llm_service.engine.interface import EngineRequest, SamplingParameters, VisualInput
from llm_service.engine.pytorch.penalties import History
from llm_service.engine.pytorch.request import Request
from llm_service.engine.pytorch.sampler import SampledToken, SamplingRow, sample
from llm_service.engine.pytorch.scheduler import Chunk
from llm_service.engine.pytorch.step_input import step_input
from llm_service.model.attention.interface import PAGED_ATTENTION
from llm_service.model.hardware import Hardware
from llm_service.model.language import LanguageModel
from llm_service.positions import VisualSpan, as_float, next_position, prompt_positions

WIDTH = 128
VOCABULARY = 512
IMAGE_TOKEN = 500
PAGE_SIZE = 4


@dataclass(frozen=True)
class TinyDecoder:
    """The same weights twice."""

    native: PreTrainedModel
    """transformers' own, with eager attention and its own rotary module."""
    paged: LanguageModel


def tiny_decoder(seed: int = 0) -> TinyDecoder:
    """Two layers, grouped key-value heads, random norms and biases, lm_head of its own."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6},
    )
    native = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in native.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    paged = AutoModelForCausalLM.from_config(config, attn_implementation=PAGED_ATTENTION).eval()
    paged.load_state_dict(native.state_dict())
    return TinyDecoder(
        native, LanguageModel(paged, Hardware.choose(torch.device("cpu"), dtype="float32", attention="sdpa"))
    )


@dataclass(frozen=True)
class Picture:
    """Visual tokens of a prompt, with the rows that belong there."""

    span: VisualSpan
    rows: torch.Tensor
    key: str


@dataclass(frozen=True)
class Prompt:
    """A prompt with its embeddings at hand."""

    token_ids: list[int]
    pictures: tuple[Picture, ...]

    def request(
        self, max_tokens: int = 8, *, sampling: SamplingParameters | None = None, tenant: str = "tenant",
        stop_token_ids: Sequence[int] = (), resume_ids: Sequence[int] = (),
    ) -> EngineRequest:  # fmt: skip
        return EngineRequest(
            tenant=tenant,
            prompt_ids=self.token_ids,
            visuals=tuple(_input(picture) for picture in self.pictures),
            sampling=sampling or SamplingParameters(seed=1),
            max_tokens=max_tokens,
            stop_token_ids=frozenset(stop_token_ids),
            resume_ids=list(resume_ids),
        )


def _input(picture: Picture) -> VisualInput:
    async def load(first: int, last: int) -> torch.Tensor:
        return picture.rows[first:last]

    return VisualInput(picture.span, picture.key, 0, load)


def prompt_of(layout: Sequence[int | tuple[int, int]], seed: int) -> Prompt:
    """A prompt of random content: n text tokens, or (visual token count, increment in ticks), in order."""
    generator = torch.Generator().manual_seed(seed)
    token_ids: list[int] = []
    pictures = []
    for index, piece in enumerate(layout):
        if isinstance(piece, int):
            token_ids += torch.randint(0, IMAGE_TOKEN, (piece,), generator=generator).tolist()
            continue
        count, increment = piece
        rows = torch.randn(count, WIDTH, generator=generator)
        pictures.append(Picture(VisualSpan(len(token_ids), count, increment), rows, f"picture-{seed}-{index}"))
        token_ids += [IMAGE_TOKEN] * count
    return Prompt(token_ids, tuple(pictures))


def native_tokens(model: PreTrainedModel, prompt: Prompt, count: int, *, ntk_length: int = 0) -> list[int]:
    """Greedy tokens by transformers, the whole sequence anew each time: no cache to be wrong.

    `ntk_length`: transformers' rotary module is told that it has seen so long a sequence.
    """
    if ntk_length:
        model = copy.deepcopy(model)
        rotary = model.model.rotary_emb
        rotary.inv_freq = ROPE_INIT_FUNCTIONS["dynamic"](rotary.config, seq_len=ntk_length)[0]
        rotary.rope_type = "default"
    return [token.token_id for token in native_samples(model, prompt, count, SamplingParameters(seed=0))]


@torch.no_grad()
def native_samples(
    model: PreTrainedModel, prompt: Prompt, count: int, sampling: SamplingParameters
) -> list[SampledToken]:
    """Tokens that our sampler chooses by transformers' logits."""
    embed = model.get_input_embeddings()
    embeddings = embed(torch.tensor(prompt.token_ids)).clone()
    for picture in prompt.pictures:
        embeddings[picture.span.start : picture.span.end] = picture.rows
    ticks = prompt_positions(len(prompt.token_ids), [picture.span for picture in prompt.pictures])
    history = History(prompt.token_ids, [(each.span.start, each.span.end) for each in prompt.pictures])
    tokens: list[SampledToken] = []
    while len(tokens) < count:
        logits = model(
            inputs_embeds=embeddings[None],
            attention_mask=torch.ones(1, len(embeddings)),  # without it, fractions are taken for packed sequences
            position_ids=as_float(ticks)[None],
            use_cache=False,
        ).logits[0, -1:]
        tokens += sample(logits, [SamplingRow(sampling, len(tokens), history)])
        history.add(tokens[-1].token_id)
        embeddings = torch.cat([embeddings, embed(torch.tensor([tokens[-1].token_id]))])
        ticks = torch.cat([ticks, torch.tensor([next_position(ticks)])])
    return tokens


def prompt_logits(model: LanguageModel, prompt: Prompt) -> torch.Tensor:
    """Logits (1, K) after the prompt, in one step on a cache of its own."""
    request = Request(prompt.request(), PAGE_SIZE)
    request.pages.extend(range(-(-len(prompt.token_ids) // PAGE_SIZE)))
    inputs = step_input([Chunk(request, len(prompt.token_ids))], PAGE_SIZE)
    return model.forward(inputs, model.new_cache(len(request.pages), PAGE_SIZE))
