"""Chooses the requests of the next step, and how many of their tokens run. Pure: allocates pages, computes nothing.

    loading   admitted to the queue, its prefix pages held, embeddings on their way
    waiting   ready to run, not yet started; tenants take turns
    running   some of it is computed

Each step, every request that decodes gets its one token first; what is left of the token budget goes to prefill, in
chunks, in order of arrival, and then to those that wait. Decoding therefore never waits for a long prompt. When pages
run out the latest arrival is preempted: it gives up its pages and starts again later (`Plan.preempted`).
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from internvl.errors import PromptTooLong, QueueFull
from llm_service.engine.pytorch.pages import PageAllocator
from llm_service.engine.pytorch.request import Request, pages_for


@dataclass(frozen=True)
class SchedulerLimits:
    """Bounds of one engine."""

    tokens_per_step: int
    """Maximum of one step; also the largest prefill chunk."""
    max_running: int
    """Most requests in one step."""
    max_waiting: int
    """Most requests that have not started; beyond that, QueueFull."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_running <= self.tokens_per_step:
            raise ValueError(f"max_running must be 1..tokens_per_step = {self.tokens_per_step}, got {self.max_running}")


@dataclass(frozen=True)
class Chunk:
    """Tokens [computed_count, computed_count + token_count) of a request."""

    request: Request
    token_count: int

    @property
    def wants_token(self) -> bool:
        """Whether its last token is the last one known, so that the next is to be sampled."""
        return self.token_count == self.request.remaining_count


@dataclass
class Plan:
    """One step."""

    chunks: list[Chunk] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)


class Scheduler:
    """Keeps the queues and the pages. Not thread-safe: the engine holds a lock around it."""

    def __init__(self, pages: PageAllocator, limits: SchedulerLimits) -> None:
        self.pages = pages
        self._limits = limits
        self._loading: set[Request] = set()
        self._waiting: OrderedDict[str, deque[Request]] = OrderedDict()
        self._running: list[Request] = []

    @property
    def waiting_count(self) -> int:
        return len(self._loading) + sum(len(queue) for queue in self._waiting.values())

    @property
    def waiting_token_count(self) -> int:
        waiting = [*self._loading, *(request for queue in self._waiting.values() for request in queue)]
        return sum(request.remaining_count for request in waiting)

    @property
    def running_count(self) -> int:
        return len(self._running)

    @property
    def has_work(self) -> bool:
        return bool(self._running) or bool(self._waiting)

    def add(self, request: Request) -> None:
        """Queues a request and takes over the cached pages it begins with, up to its last token but one.

        Its `computed_count` then says which embeddings it needs; call `ready` when they are there. A preempted request
        is never refused. Raises PromptTooLong for one that could never run, QueueFull when too many wait.
        """
        is_new = not request.was_preempted
        if is_new and request.worst_page_count > self.pages.page_count:
            capacity = self.pages.page_count * self.pages.page_size
            raise PromptTooLong(
                f"prompt and max_tokens need {request.worst_page_count * self.pages.page_size} cached tokens, "
                f"this replica holds {capacity}"
            )
        if is_new and self.waiting_count >= self._limits.max_waiting:
            raise QueueFull(f"{self.waiting_count} requests wait already", retry_after_seconds=1.0)
        reusable = (len(request.token_ids) - 1) // self.pages.page_size
        request.pages.extend(self.pages.take_over(request.hash_full_pages()[:reusable]))
        request.computed_count = len(request.pages) * self.pages.page_size
        if is_new:
            request.cached_token_count = min(request.computed_count, request.prompt_count)
        self._loading.add(request)

    def ready(self, request: Request) -> None:
        """The embeddings of a request are there: it may start."""
        self._loading.remove(request)
        queue = self._waiting.setdefault(request.spec.tenant, deque())
        if request.was_preempted:
            queue.appendleft(request)
        else:
            queue.append(request)

    def remove(self, request: Request) -> None:
        """Takes a request out, wherever it is, and releases its pages. Not while a step runs it."""
        self._loading.discard(request)
        queue = self._waiting.get(request.spec.tenant)
        if queue is not None and request in queue:
            queue.remove(request)
            if not queue:
                del self._waiting[request.spec.tenant]
        if request in self._running:
            self._running.remove(request)
        self.pages.release(request.pages)
        del request.pages[:]
        request.computed_count = 0

    def plan(self) -> Plan:
        """The next step. Its chunks' pages are allocated; call `complete` for each when it has run."""
        plan = Plan()
        budget = self._limits.tokens_per_step
        decoding = [request for request in self._running if request.remaining_count == 1]
        prefilling = [request for request in self._running if request.remaining_count > 1]
        for request in decoding + prefilling:
            budget -= self._add_chunk(plan, request, budget, may_preempt=True)
        while budget > 0 and len(self._running) < self._limits.max_running and not plan.preempted:
            candidate = self._next_waiting()
            if candidate is None:
                break
            used = self._add_chunk(plan, candidate, budget, may_preempt=False)
            if used == 0:
                break
            budget -= used
            self._start(candidate)
        return plan

    def complete(self, chunk: Chunk) -> None:
        """The chunk's tokens are in the cache: names the pages they filled."""
        request = chunk.request
        full_before = request.computed_count // self.pages.page_size
        request.computed_count += chunk.token_count
        hashes = request.hash_full_pages()
        for index in range(full_before, request.computed_count // self.pages.page_size):
            self.pages.name(request.pages[index], hashes[index])

    def check(self) -> None:
        """Raises AssertionError unless pages and requests agree."""
        self.pages.check()
        if self.is_idle:
            self.check_idle()

    @property
    def is_idle(self) -> bool:
        """No request runs or waits."""
        return not (self._running or self._waiting or self._loading)

    def check_idle(self) -> None:
        """Raises AssertionError if pages are held while no request is. Costs nothing, so it runs in service too."""
        assert self.pages.held_count == 0, f"{self.pages.held_count} pages leaked"

    def _add_chunk(self, plan: Plan, request: Request, budget: int, *, may_preempt: bool) -> int:
        """Adds as many tokens of the request as budget and pages allow; returns how many."""
        if request in plan.preempted:  # it ran, and one before it in this plan took its pages
            return 0
        wanted = min(request.remaining_count, budget)
        if wanted < 1:  # the budget is spent
            return 0
        # A victim's pages need not be enough: pages of a shared prefix stay with the others that hold them.
        missing = pages_for(request.computed_count + wanted, self.pages.page_size) - len(request.pages)
        while self.pages.available_count < missing:
            victim = self._victim(request, may_preempt=may_preempt)
            if victim is None:  # it is about to start, and waits until those that run have pages to spare
                return 0
            self._preempt(plan, victim)
            if victim is request:  # it is itself the latest arrival
                return 0
        for _ in range(missing):
            page = self.pages.take()
            assert page is not None
            request.pages.append(page)
        plan.chunks.append(Chunk(request, wanted))
        return wanted

    def _preempt(self, plan: Plan, victim: Request) -> None:
        # It may have been planned already in this step: decoding requests come first, whenever they arrived.
        plan.chunks = [chunk for chunk in plan.chunks if chunk.request is not victim]
        plan.preempted.append(victim)
        victim.was_preempted = True
        self.remove(victim)

    def _victim(self, needy: Request, *, may_preempt: bool) -> Request | None:
        """The request that gives up its pages; None if none has to.

        First those that wait and hold a cached prefix, last in line first: they have computed nothing yet. Then the
        latest arrival that runs. One that is about to start takes no pages from those that run.
        """
        if not may_preempt and self._running:  # what runs will end and free its pages; else it would wait for ever
            return None
        waiting = (request for queue in reversed(self._waiting.values()) for request in reversed(queue))
        holder = next((request for request in waiting if request.pages and request is not needy), None)
        return holder or (self._running[-1] if may_preempt else None)

    def _next_waiting(self) -> Request | None:
        return next(iter(self._waiting.values()))[0] if self._waiting else None

    def _start(self, request: Request) -> None:
        """Moves the first of the queue to the running ones; its tenant goes to the end of the line."""
        tenant = request.spec.tenant
        queue = self._waiting.pop(tenant)
        assert queue.popleft() is request
        if queue:
            self._waiting[tenant] = queue
        self._running.append(request)
