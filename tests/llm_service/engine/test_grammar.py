"""Constraints: only what the grammar allows, the end only where it may, and bounds on what hostile grammars take."""

import json
import time
from collections.abc import Iterator

import pytest
import torch
from llguidance import LLMatcher

from internvl.errors import BadOption, GrammarInvalid
from llm_service.engine.grammar import MAX_GRAMMAR_CHARS, Constraint, Grammars
from llm_service.engine.interface import SamplingParameters
from llm_service.engine.pytorch.penalties import History
from llm_service.engine.pytorch.sampler import SamplingRow, sample
from tests.support.tokenizer import core, encode, end_id

STOP = end_id()


@pytest.fixture(scope="module")
def grammars() -> Iterator[Grammars]:
    grammars = Grammars(core(), STOP)
    yield grammars
    grammars.close()


def regex(text: str) -> str:
    return LLMatcher.grammar_from_regex(text)


def schema(value: object) -> str:
    return LLMatcher.grammar_from_json_schema(json.dumps(value))


def allowed(constraint: Constraint) -> set[str]:
    mask = constraint.mask()
    assert mask is not None
    return {core().id_to_token(token_id) or "" for token_id in mask.nonzero()[:, 0].tolist()}


def advance(constraint: Constraint, text: str) -> None:
    for token_id in encode(text):
        constraint.advance(token_id)


def test_the_end_is_allowed_where_the_grammar_may_end(grammars: Grammars) -> None:
    constraint = grammars.compile(regex("ab{1,2}")).result().begin([])
    assert allowed(constraint) == {"a"}
    advance(constraint, "a")
    assert allowed(constraint) == {"b"}
    advance(constraint, "b")
    assert allowed(constraint) == {"b", "<|im_end|>"}
    advance(constraint, "b")
    assert allowed(constraint) == {"<|im_end|>"}


def test_control_tokens_are_no_text(grammars: Grammars) -> None:
    tokens = allowed(grammars.compile(regex("(.|\n)*")).result().begin([]))
    assert not tokens & {"<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>", "<|endoftext|>"}


@pytest.mark.parametrize("cut", range(6))
def test_a_reply_is_resumed_inside_its_grammar(grammars: Grammars, cut: int) -> None:
    grammar = grammars.compile(schema({"enum": ["hello", "heap"]})).result()
    token_ids = encode('"hello"')
    whole, resumed = grammar.begin([]), grammar.begin(token_ids[:cut])
    for token_id in token_ids[:cut]:
        whole.advance(token_id)
    assert allowed(resumed) == allowed(whole)
    assert resumed.token_count == whole.token_count


def test_tokens_that_are_no_such_reply_are_refused(grammars: Grammars) -> None:
    constraint = grammars.compile(regex("ab")).result().begin(encode("b"))
    assert constraint.mask() is None
    assert isinstance(constraint.failure, BadOption)


def test_a_token_is_taken_back(grammars: Grammars) -> None:
    constraint = grammars.compile(regex("ab|cd")).result().begin([])
    advance(constraint, "a")
    assert allowed(constraint) == {"b"}
    constraint.retreat()
    assert allowed(constraint) == {"a", "c"}


def test_replies_of_one_grammar_do_not_meet(grammars: Grammars) -> None:
    grammar = grammars.compile(regex("ab|cd")).result()
    first, second = grammar.begin([]), grammar.begin([])
    advance(first, "a")
    advance(second, "c")
    assert (allowed(first), allowed(second)) == ({"b"}, {"d"})


def test_a_grammar_in_use_is_compiled_once(grammars: Grammars) -> None:
    text = regex("once")
    assert grammars.compile(text).result() is grammars.compile(text).result()


def test_what_is_no_whole_reply_does_not_end(grammars: Grammars) -> None:
    grammar = grammars.compile(regex("abc")).result()
    assert grammar.allows(encode("ab"))
    assert grammar.allows([*encode("abc"), STOP])
    assert not grammar.allows([*encode("ab"), STOP])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_sampler_chooses_what_is_allowed_and_tells_the_models_log_probabilities(
    grammars: Grammars, temperature: float
) -> None:
    """Whatever the penalties: here the model wants something else, and has more logits than the tokenizer tokens."""
    constraint = grammars.compile(regex("[xy]")).result().begin([])
    logits = torch.randn(1, 400, generator=torch.Generator().manual_seed(0)) * 9
    parameters = SamplingParameters(
        seed=3, temperature=temperature, top_p=0.5, repetition_penalty=1.5, top_logprob_count=1
    )
    (token,) = sample(logits, [SamplingRow(parameters, 0, History([1], []), allowed=constraint.mask())])
    assert core().decode([token.token_id]) in ("x", "y")
    assert token.logprob is not None
    assert token.logprob.logprob == pytest.approx(float(logits.log_softmax(-1)[0, token.token_id]))
    assert token.alternatives[0].token_id == int(logits.argmax())


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        (schema({"type": "objekt"}), "Invalid type"),
        (schema({"$ref": "#/$defs/none"}), "does not exist"),
        (schema({"$ref": "https://example.com/schema.json"}), "not present"),
        (schema({"type": "string", "pattern": "(?<=a)b"}), "look-around"),
        (schema({"type": "integer", "minimum": 5, "maximum": 3}), "Unsatisfiable"),
        (schema({"not": {"type": "string"}}), "not"),
        (regex("(ab"), "unclosed group"),
        (LLMatcher.grammar_from_lark("start: nothing"), "unknown name"),
        ("x" * (MAX_GRAMMAR_CHARS + 1), "at most"),
    ],
)
def test_what_cannot_be_compiled_is_refused_with_the_reason(grammars: Grammars, grammar: str, words: str) -> None:
    with pytest.raises(GrammarInvalid, match=words) as refused:
        grammars.compile(grammar).result()
    assert len(refused.value.message) <= 300


def _deep(levels: int) -> str:
    return LLMatcher.grammar_from_json_schema('{"properties": {"a": ' * levels + '{"type": "string"}' + "}}" * levels)


def _alternatives(count: int) -> str:
    rules = "\n".join(f'x{i}: "a"* x{(i + 1) % count} | "b"' for i in range(count))
    return f"start: {' | '.join(f'x{i}' for i in range(count))}\n{rules}"


HOSTILE = {
    "counted": schema({"type": "string", "pattern": "(.*a.{20}){10}"}),
    "exponential": schema({"type": "string", "pattern": "(a|b)*a(a|b){25}$"}),
    "huge-count": schema({"type": "string", "maxLength": 10**9}),
    "many-items": schema({"type": "array", "items": {"type": "string"}, "minItems": 10**6}),
    "many-properties": schema({"properties": {f"p{index}": {"type": "string"} for index in range(1500)}}),
    "intersection": schema({"allOf": [{"type": "string", "pattern": f".*{letter}.*"} for letter in "abcdefghijkl"]}),
    "all-of-any-of": schema(
        {"allOf": [{"anyOf": [{"properties": {f"k{i}{j}": {"const": j}}} for j in range(6)]} for i in range(8)]}
    ),
    "unicode": regex(r"(\p{L}\p{N}|\w+){1,2000}\d"),
    "ambiguous": 'start: s\ns: s s s | s s | "a"',
    "alternatives": _alternatives(1500),
    "deep": _deep(90),
    "enum": schema({"enum": [f"{index:09}" for index in range(5000)]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_grammars_are_bounded(grammars: Grammars, name: str) -> None:
    """Refused when compiled, or held within bounds while it runs: seconds where the machine is busy, never minutes."""
    started = time.process_time()
    try:
        constraint = grammars.compile(HOSTILE[name]).result(timeout=60)
    except GrammarInvalid:
        return
    finally:
        assert time.process_time() - started < 20
    reply = constraint.begin([])
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        started = time.process_time()
        mask = reply.mask()
        assert time.process_time() - started < 5
        if mask is None:
            assert isinstance(reply.failure, GrammarInvalid)
            return
        weights = mask.float()
        weights[STOP] *= 1e-6
        token_id = int(weights.multinomial(1, generator=generator))
        if token_id == STOP:
            return
        reply.advance(token_id)
