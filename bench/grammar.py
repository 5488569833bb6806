"""Cost of holding replies to a schema: decoding steps with and without, and the parts of the difference.

    python -m bench.checkpoint --shape 1B FOLDER && python -m bench.grammar FOLDER

Replies of a batch are free, then held, then free again, so that a busy machine shows. With random weights: what a model
says does not matter, the vocabulary and the time of its steps do.
"""

import argparse
import asyncio
import statistics
import time
from itertools import pairwise
from pathlib import Path

from bench.llm.language import Prompts
from llm_service.engine.choose import running_engine
from llm_service.engine.grammar import Grammars
from llm_service.engine.interface import Engine, EngineRequest, GeneratedToken, SamplingParameters
from llm_service.output.formats import schema_grammar
from llm_service.prompt import PromptBuilder
from llm_service.settings import LlmSettings
from shared.checkpoint.tokenizer import load_tokenizer

PROMPT_TOKENS = 32
SCHEMA = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "kind": {"enum": ["invoice", "receipt", "letter"]},
            "total": {"type": "number"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["name", "kind", "total", "tags"],
        "additionalProperties": False,
    },
}
"""Extraction as people ask for it, without an end."""


async def step_seconds(engine: Engine, prompts: Prompts, batch: int, tokens: int, grammar: str | None) -> list[float]:
    """Times between the tokens of one reply of the batch, once all have begun."""

    async def arrivals() -> list[float]:
        sampling = SamplingParameters(seed=0, temperature=1.0, grammar=grammar)
        request = EngineRequest("bench", prompts.ids(PROMPT_TOKENS), (), sampling, tokens, frozenset())
        return [time.perf_counter() async for event in engine.generate(request) if isinstance(event, GeneratedToken)]

    replies = await asyncio.gather(*(arrivals() for _ in range(batch)))
    start = max(times[0] for times in replies)
    times = [each for each in replies[0] if each > start]
    return [after - before for before, after in pairwise(times)]


def mask_seconds(grammars: Grammars, grammar: str, tokens: int) -> list[float]:
    """Times of one reply's masks, which are computed while the model runs."""
    constraint = grammars.compile(grammar).result().begin([])
    times = []
    for index in range(tokens):
        allowed = constraint.mask()
        assert allowed is not None
        token_id = int(allowed.nonzero()[(index * 7919) % int(allowed.sum())])
        start = time.perf_counter()
        constraint.advance(token_id)
        constraint.mask()
        times.append(time.perf_counter() - start)
    return times


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.grammar", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=33)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    settings = LlmSettings.model_validate({"model": str(options.checkpoint), "device": "cpu", "dtype": options.dtype})
    tokenizer = load_tokenizer(options.checkpoint)
    grammars = Grammars(tokenizer, PromptBuilder(tokenizer, "").stop_token_id)
    grammar = schema_grammar(SCHEMA, "")
    start = time.perf_counter()
    await asyncio.wrap_future(grammars.compile('start: "a"'))
    print(f"tokenizer           {time.perf_counter() - start:8.2f} s, once")
    start = time.perf_counter()
    await asyncio.wrap_future(grammars.compile(grammar))
    print(f"compile the schema  {(time.perf_counter() - start) * 1e3:8.2f} ms, once")
    masks = mask_seconds(grammars, grammar, 200)
    print(
        f"one mask            {statistics.median(masks) * 1e3:8.3f} ms median, {max(masks) * 1e3:.3f} ms worst of 200"
    )
    found: dict[str, list[float]] = {"free": [], "held": []}
    async with running_engine(settings, options.checkpoint, grammars) as engine:
        prompts = Prompts(0)
        await step_seconds(engine, prompts, options.batch, 4, grammar)
        for _ in range(options.rounds):
            for name, text in (("free", None), ("held", grammar)):
                found[name] += await step_seconds(engine, prompts, options.batch, options.tokens, text)
    medians = {name: statistics.median(times) * 1e3 for name, times in found.items()}
    for name, times in found.items():
        print(f"step of {options.batch}, {name}     {medians[name]:8.2f} ms median of {len(times)}")
    print(f"held costs          {medians['held'] / medians['free'] - 1:8.1%}")
    grammars.close()


if __name__ == "__main__":
    asyncio.run(main())
