"""One of our requests in vLLM's words, and vLLM's answers in ours."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import torch
from vllm import RequestOutput, SamplingParams
from vllm.inputs.engine import MultiModalInput, TokensInput, mm_input, tokens_input
from vllm.multimodal.inputs import (
    MultiModalBatchedField,
    MultiModalFieldElem,
    MultiModalKwargsItem,
    MultiModalKwargsItems,
    PlaceholderRange,
)
from vllm.sampling_params import RequestOutputKind

from llm_service.engine.interface import (
    Admitted,
    EngineRequest,
    FinishReason,
    GeneratedToken,
    Logprob,
    SamplingParameters,
)
from llm_service.engine.vllm.items import cache_salt, identifier
from llm_service.engine.vllm.sampling import ARGUMENT

_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_GREEDY = SamplingParameters(seed=0)


def engine_input(request: EngineRequest, rows: Sequence[torch.Tensor]) -> MultiModalInput | TokensInput:
    """The prompt with the reply it already has. `rows` (R, E) of each visual; how they are placed rides on each item.

    Dynamic NTK is a property of the request, for which vLLM has no place: an item without rows carries it.
    """
    token_ids = [*request.prompt_ids, *request.resume_ids]
    items, names, places = [], [], []
    if request.ntk_length:
        items.append(_item(ntk_length=torch.tensor(request.ntk_length)))
        names.append(f"ntk {request.ntk_length}")
        places.append(PlaceholderRange(0, 1, is_embed=torch.tensor([False])))
    for visual, embeds in zip(request.visuals, rows, strict=True):
        items.append(_item(image_embeds=embeds, increment=torch.tensor(visual.span.increment)))
        names.append(identifier(request, visual))
        places.append(PlaceholderRange(visual.span.start, visual.span.token_count))
    salt = cache_salt(request)
    if not items:
        return tokens_input(token_ids, cache_salt=salt)
    kwargs = MultiModalKwargsItems({"image": items})
    return mm_input(token_ids, kwargs, {"image": names}, {"image": places}, cache_salt=salt)


def _item(**fields: torch.Tensor) -> MultiModalKwargsItem:
    """Numbers stay on the CPU, where positions are made."""
    return MultiModalKwargsItem(
        {
            name: MultiModalFieldElem(data=data, field=MultiModalBatchedField(keep_on_cpu=name != "image_embeds"))
            for name, data in fields.items()
        }
    )


def sampling_params(request: EngineRequest) -> SamplingParams:
    """Greedy for vLLM: what is not greedy is chosen before it looks, see `sampling`."""
    parameters = request.sampling
    plain = SamplingParameters(seed=0, top_logprob_count=parameters.top_logprob_count)
    extra = None
    if asdict(parameters) | {"seed": 0} != asdict(plain):
        extra = {
            ARGUMENT: {
                "parameters": asdict(parameters),
                "stop_ids": sorted(request.stop_token_ids),
                "prompt_count": len(request.prompt_ids),
                "visual_ranges": [(visual.span.start, visual.span.end) for visual in request.visuals],
            }
        }
    return SamplingParams(
        temperature=0.0,
        max_tokens=request.max_tokens - len(request.resume_ids),
        stop_token_ids=sorted(request.stop_token_ids),
        ignore_eos=True,
        detokenize=False,
        logprobs=parameters.top_logprob_count,
        output_kind=RequestOutputKind.DELTA,
        extra_args=extra,
    )


def admitted(request: EngineRequest, output: RequestOutput) -> Admitted:
    """Facts of a request, from its first output."""
    times = output.metrics
    queue_seconds = 0.0 if times is None else max(0.0, times.scheduled_ts - times.queued_ts)
    return Admitted(min(output.num_cached_tokens or 0, len(request.prompt_ids)), queue_seconds)


def generated_tokens(request: EngineRequest, output: RequestOutput) -> Iterator[GeneratedToken]:
    """The tokens of one output: more than one where the reader was slower than the engine."""
    (completion,) = output.outputs
    last = len(completion.token_ids) - 1
    for place, token_id in enumerate(completion.token_ids):
        finish = _FINISH[completion.finish_reason] if completion.finish_reason and place == last else None
        thought = completion.logprobs[place] if completion.logprobs else {}
        ranked = sorted((value.rank, other, value.logprob) for other, value in thought.items())
        yield GeneratedToken(
            token_id,
            finish,
            Logprob(token_id, thought[token_id].logprob) if thought else None,
            tuple(Logprob(other, value) for _, other, value in ranked[: request.sampling.top_logprob_count]),
        )
