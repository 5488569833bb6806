"""One request's tokens, pages and progress.

tokens      |<------ prompt ------>|<-- reply -->|
computed    |<--- in the KV cache --->|
step                                  |<- run ->|      the last token of a reply is computed when the next is wanted
"""

import hashlib
import struct
from dataclasses import dataclass, field
from functools import cached_property

import torch

from llm_service.engine.interface import EngineRequest
from llm_service.engine.pytorch.pages import PageHash
from llm_service.positions import TICKS, next_position, prompt_positions


@dataclass(eq=False)
class Sequence:
    """State of one request inside the engine."""

    request: EngineRequest
    page_size: int
    token_ids: list[int] = field(init=False)
    """Prompt and reply."""
    prompt_ticks: torch.Tensor = field(init=False)
    """Positions of the prompt in ticks, int64 (P,)."""
    pages: list[int] = field(default_factory=list)
    page_hashes: list[PageHash] = field(default_factory=list)
    """Names of the full pages so far; may run ahead of `pages`."""
    computed_count: int = 0
    cached_token_count: int = 0
    """Tokens found in the prefix cache on the first admission."""
    rows: dict[int, tuple[int, torch.Tensor]] = field(default_factory=dict)
    """Visual embeddings that were loaded: index in request.visuals -> (first row, (R, D))."""
    was_preempted: bool = False
    queue_seconds: float = 0.0
    """How long it waited for its first step."""

    def __post_init__(self) -> None:
        self.token_ids = [*self.request.prompt_ids, *self.request.resume_ids]
        spans = [visual.span for visual in self.request.visuals]
        self.prompt_ticks = prompt_positions(self.prompt_count, spans)
        self._first_reply_tick = next_position(self.prompt_ticks)

    @property
    def prompt_count(self) -> int:
        return len(self.request.prompt_ids)

    @cached_property
    def prompt_text_ids(self) -> list[int]:
        """Tokens of the prompt that are not visual."""
        ids, start = [], 0
        for visual in self.request.visuals:
            ids += self.request.prompt_ids[start : visual.span.start]
            start = visual.span.end
        return ids + self.request.prompt_ids[start:]

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
        return pages_for(self.prompt_count + self.request.max_tokens - 1, self.page_size)

    def ticks(self, first: int, last: int) -> torch.Tensor:
        """Positions of tokens [first, last) in ticks, int64."""
        prompt = self.prompt_ticks[first:last]
        if last <= self.prompt_count:
            return prompt
        reply = torch.arange(max(first, self.prompt_count), last, dtype=torch.int64) - self.prompt_count
        return torch.cat([prompt, self._first_reply_tick + reply * TICKS])

    def hash_full_pages(self) -> list[PageHash]:
        """Names of all pages that the known tokens fill."""
        for index in range(len(self.page_hashes), len(self.token_ids) // self.page_size):
            previous = self.page_hashes[-1] if self.page_hashes else self._root()
            self.page_hashes.append(self._hash_page(previous, index * self.page_size))
        return self.page_hashes

    def _root(self) -> bytes:
        """What all tokens of the sequence depend on: whose they are, and the rotation."""
        return struct.pack("<q", self.request.ntk_length) + self.request.tenant.encode()

    def _hash_page(self, previous: bytes, first: int) -> PageHash:
        last = first + self.page_size
        digest = hashlib.sha256(struct.pack("<Q", len(previous)) + previous)
        digest.update(struct.pack(f"<{self.page_size}q", *self.token_ids[first:last]))
        for visual in self.request.visuals:
            span = visual.span
            if span.start < last and first < span.end:
                row = visual.first_row + max(first - span.start, 0)
                place = struct.pack("<QQQ", max(span.start - first, 0), row, span.increment)
                digest.update(place + visual.key.encode())
        return digest.digest()


def pages_for(token_count: int, page_size: int) -> int:
    """Pages that hold `token_count` tokens."""
    return -(-token_count // page_size)
