"""One request's tokens, pages and progress.

tokens      |<------ prompt ------>|<-- reply -->|
computed    |<--- in the KV cache --->|
step                                  |<- run ->|      the last token of a reply is computed when the next is wanted
"""

import hashlib
import struct
import time
from array import array
from dataclasses import dataclass, field

import numpy as np
import torch

from llm_service.engine.grammar import Constraint
from llm_service.engine.interface import EngineRequest
from llm_service.engine.pytorch.pages import PageHash
from llm_service.engine.pytorch.penalties import History
from llm_service.positions import TICKS, next_position, prompt_positions


@dataclass(eq=False)
class Request:
    """State of one request inside the engine."""

    spec: EngineRequest
    page_size: int
    token_ids: list[int] = field(init=False)
    """Prompt and reply."""
    prompt_count: int = field(init=False)
    prompt_ticks: np.ndarray = field(init=False)
    """Positions of the prompt in ticks, int64 (P,)."""
    reply_ticks: int = field(init=False)
    """Tick of a token of the reply, less TICKS times its index among `token_ids`."""
    history: History | None = None
    """Counts that penalties depend on; None where there are none."""
    pages: "array[int]" = field(default_factory=lambda: array("i"))
    """int32."""
    page_hashes: list[PageHash] = field(default_factory=list)
    """Names of the full pages so far; may run ahead of `pages`."""
    computed_count: int = 0
    cached_token_count: int = 0
    """Tokens found in the prefix cache on the first admission."""
    rows: dict[int, tuple[int, torch.Tensor]] = field(default_factory=dict)
    """Visual embeddings that were loaded: index in spec.visuals -> (first row, (R, D))."""
    was_preempted: bool = False
    constraint: Constraint | None = None
    """Constraint of the reply."""
    arrived: float = field(default_factory=time.monotonic)
    queue_seconds: float | None = None
    """How long it waited for its first step; None until then."""

    def __post_init__(self) -> None:
        self.token_ids = [*self.spec.prompt_ids, *self.spec.resume_ids]
        self.prompt_count = len(self.spec.prompt_ids)
        ticks = prompt_positions(self.prompt_count, [visual.span for visual in self.spec.visuals])
        self.prompt_ticks = ticks.numpy()
        self.reply_ticks = next_position(ticks) - self.prompt_count * TICKS
        if self.spec.sampling.has_penalty:
            spans = [(visual.span.start, visual.span.end) for visual in self.spec.visuals]
            self.history = History(self.spec.prompt_ids, spans, self.spec.resume_ids)

    @property
    def reply_count(self) -> int:
        return len(self.token_ids) - self.prompt_count

    @property
    def remaining_count(self) -> int:
        """Tokens known but not computed; one while decoding, more while prefilling."""
        return len(self.token_ids) - self.computed_count

    @property
    def worst_page_count(self) -> int:
        """Pages held at the end if no stop token comes. The last token is never computed."""
        return pages_for(self.prompt_count + self.spec.max_tokens - 1, self.page_size)

    def add(self, token_id: int) -> None:
        """A token of the reply."""
        self.token_ids.append(token_id)
        if self.history is not None:
            self.history.add(token_id)

    def hash_full_pages(self) -> list[PageHash]:
        """Names of all pages that the known tokens fill."""
        for index in range(len(self.page_hashes), len(self.token_ids) // self.page_size):
            previous = self.page_hashes[-1] if self.page_hashes else self._root()
            self.page_hashes.append(self._hash_page(previous, index * self.page_size))
        return self.page_hashes

    def _root(self) -> bytes:
        """Names what all tokens of the request depend on beside each other: tenant and rotation."""
        return struct.pack("<q", self.spec.ntk_length) + self.spec.tenant.encode()

    def _hash_page(self, previous: bytes, first: int) -> PageHash:
        last = first + self.page_size
        digest = hashlib.sha256(struct.pack("<Q", len(previous)) + previous)
        digest.update(struct.pack(f"<{self.page_size}q", *self.token_ids[first:last]))
        for visual in self.spec.visuals:
            span = visual.span
            if span.start < last and first < span.end:
                row = visual.first_row + max(first - span.start, 0)
                place = struct.pack("<QQQ", max(span.start - first, 0), row, span.increment)
                digest.update(place + visual.key.encode())
        return digest.digest()


def pages_for(token_count: int, page_size: int) -> int:
    """Pages that hold `token_count` tokens."""
    return -(-token_count // page_size)
