"""Replies held to a grammar: which tokens may come next. By llguidance, in whose notation a grammar is a text.

    grammar = grammars.compile(text)        once for each text in use; refuses what is wrong, or too much work
    constraint = grammar.begin(token_ids)   one reply, after the tokens it already has
    constraint.mask(), choose, constraint.advance(token_id), constraint.mask() ...

A mask is computed in a thread of its own as soon as the token before it is chosen, so while the model runs. Knows
tokens and grammars, and neither requests nor JSON. Legend: K tokens of the tokenizer.
"""

from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from tokenizers import Tokenizer

from internvl.errors import BadOption, GrammarInvalid, InternvlError

MAX_GRAMMAR_CHARS = 100_000
_CACHED_GRAMMARS = 64
_REASON_CHARS = 300
_LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=50_000,
    step_max_items=10_000,
    max_items_in_row=1_000,
    max_lexer_states=20_000,
    max_grammar_size=50_000,
    verbose_errors=False,
)
"""Limits of one grammar: at worst a second or two to compile, some tens of milliseconds a mask, some tens of MB."""


class Grammars:
    """Grammars of one tokenizer, compiled one at a time in a thread of their own."""

    def __init__(self, tokenizer: Tokenizer, stop_token_id: int) -> None:
        """`stop_token_id` is allowed where a grammar may end. Returns at once; the first grammar waits for seconds."""
        self._compiler = ThreadPoolExecutor(1, "grammar-compiler")
        self._masker = ThreadPoolExecutor(1, "grammar-masks")
        self._tokenizer: Future[LLTokenizer] = self._compiler.submit(
            lambda: LLTokenizer(tokenizer.to_str(), eos_token=stop_token_id)
        )
        self._compiled = lru_cache(_CACHED_GRAMMARS)(self._compile)

    def compile(self, text: str) -> "Future[Grammar]":
        """The grammar, compiled or found. The future raises GrammarInvalid."""
        return self._compiler.submit(self._compiled, text)

    def compiles(self, text: str) -> bool:
        """Whether a grammar can be compiled; waits, and keeps nothing."""
        return self._compiler.submit(self._compile, text).exception() is None

    def close(self) -> None:
        """Ends both threads after what they are at."""
        for pool in (self._compiler, self._masker):
            pool.shutdown(wait=False, cancel_futures=True)

    def _compile(self, text: str) -> "Grammar":
        if len(text) > MAX_GRAMMAR_CHARS:
            raise GrammarInvalid(f"a grammar of {len(text)} characters; at most {MAX_GRAMMAR_CHARS} are compiled")
        matcher = LLMatcher(self._tokenizer.result(), text, log_level=0, limits=_LIMITS)
        _check(matcher)
        trial = matcher.deep_copy()
        trial.compute_bitmask()
        _check(trial)  # what fails at its first token is refused before the reply has begun
        return Grammar(matcher, self._masker)


class Grammar:
    """A compiled grammar."""

    def __init__(self, matcher: LLMatcher, worker: Executor) -> None:
        self._matcher = matcher
        self._worker = worker

    def begin(self, token_ids: Sequence[int]) -> "Constraint":
        """A reply that has `token_ids` already."""
        return Constraint(self._matcher.deep_copy(), self._worker, token_ids)

    def allows(self, token_ids: Sequence[int]) -> bool:
        """Whether a reply may begin so; the stop token, where it is the last, only ends a whole one."""
        return bool(self._matcher.deep_copy().consume_tokens(list(token_ids)))


class Constraint:
    """Tokens that one reply may continue with. A constraint is used by one thread at a time."""

    def __init__(self, matcher: LLMatcher, worker: Executor, token_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._worker = worker
        self.token_count = len(token_ids)
        """Tokens of the reply that the grammar has seen."""
        self.failure: InternvlError | None = None
        """Why there are no masks any more."""
        self._mask = worker.submit(self._begin, list(token_ids))

    def mask(self) -> torch.Tensor | None:
        """Tokens that may come next, bool (K,) on the CPU; the stop token is one where the grammar may end.

        None when the grammar has failed: the reply cannot continue, see `failure`.
        """
        try:
            return self._mask.result()
        except InternvlError as error:
            self.failure = error
            return None

    def advance(self, token_id: int) -> None:
        """The token was chosen: the next mask is computed from here on."""
        self.token_count += 1
        self._mask = self._worker.submit(self._advance, token_id)

    def retreat(self) -> None:
        """The token chosen last was discarded."""
        self.token_count -= 1
        self._mask = self._worker.submit(self._retreat)

    def _begin(self, token_ids: list[int]) -> torch.Tensor:
        if not self._matcher.consume_tokens(token_ids):
            raise BadOption("the resume tokens are no beginning of such a reply", field="resume_token_ids")
        return self._allowed()

    def _advance(self, token_id: int) -> torch.Tensor:
        self._matcher.consume_token(token_id)
        return self._allowed()

    def _retreat(self) -> torch.Tensor:
        self._matcher.rollback(1)
        return self._allowed()

    def _allowed(self) -> torch.Tensor:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        _check(self._matcher)
        return torch.from_numpy(np.unpackbits(bits, bitorder="little").view(np.bool_))


def _check(matcher: LLMatcher) -> None:
    if matcher.is_error():
        reason = " ".join(matcher.get_error().replace("<non-verbose/>", "").split())
        raise GrammarInvalid(reason[:_REASON_CHARS])
