"""The scheduler without a model: budgets, order, fairness, preemption; random histories with hypothesis."""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from internvl.errors import PromptTooLong, QueueFull
from llm_service.engine.interface import EngineRequest, SamplingParameters
from llm_service.engine.pytorch.pages import PageAllocator
from llm_service.engine.pytorch.request import Request
from llm_service.engine.pytorch.scheduler import Plan, Scheduler, SchedulerLimits

PAGE_SIZE = 4


def scheduler_of(page_count: int = 100, **limits: int) -> Scheduler:
    wanted = {"tokens_per_step": 16, "max_running": 8, "max_waiting": 50, **limits}
    return Scheduler(PageAllocator(page_count, PAGE_SIZE), SchedulerLimits(**wanted))


def request_of(prompt_count: int, max_tokens: int = 4, *, tenant: str = "t", first_id: int = 0) -> Request:
    spec = EngineRequest(
        tenant=tenant,
        prompt_ids=[first_id + index for index in range(prompt_count)],
        visuals=(),
        sampling=SamplingParameters(seed=0),
        max_tokens=max_tokens,
        stop_token_ids=frozenset(),
    )
    return Request(spec, PAGE_SIZE)


def start(scheduler: Scheduler, *requests: Request) -> None:
    for request in requests:
        scheduler.add(request)
        scheduler.ready(request)


def run(scheduler: Scheduler, plan: Plan) -> list[Request]:
    """Does with a plan as the engine does; returns the requests that ended."""
    ended = []
    for chunk in plan.chunks:
        wants_token = chunk.wants_token
        scheduler.complete(chunk)
        if wants_token:
            chunk.request.token_ids.append(1_000_000 + len(chunk.request.token_ids))
            if chunk.request.reply_count == chunk.request.spec.max_tokens:
                ended.append(chunk.request)
    for request in ended:
        scheduler.remove(request)
    return ended


def test_a_long_prompt_never_stops_those_that_decode() -> None:
    scheduler = scheduler_of()
    chatting = request_of(3, max_tokens=40)
    start(scheduler, chatting)
    run(scheduler, scheduler.plan())
    start(scheduler, request_of(100, first_id=500))
    for _ in range(6):
        plan = scheduler.plan()
        assert chatting in [chunk.request for chunk in plan.chunks]
        assert sum(chunk.token_count for chunk in plan.chunks) <= 16
        run(scheduler, plan)


def test_tenants_take_turns() -> None:
    scheduler = scheduler_of(max_running=2, tokens_per_step=16)
    crowd = [request_of(4, tenant="crowd", first_id=100 * index) for index in range(6)]
    single = request_of(4, tenant="single")
    start(scheduler, *crowd, single)
    assert single in [chunk.request for chunk in scheduler.plan().chunks]


def test_a_known_prefix_is_not_computed_again() -> None:
    scheduler = scheduler_of()
    first = request_of(10, max_tokens=1)
    start(scheduler, first)
    assert run(scheduler, scheduler.plan()) == [first]
    again, other_tenant = request_of(10), request_of(10, tenant="other")
    start(scheduler, again, other_tenant)
    assert (again.computed_count, other_tenant.computed_count) == (8, 0)


def test_the_last_token_is_always_computed() -> None:
    scheduler = scheduler_of()
    start(scheduler, first := request_of(8, max_tokens=1))
    assert run(scheduler, scheduler.plan()) == [first]
    start(scheduler, again := request_of(8))
    assert again.computed_count == 4


def test_what_can_never_run_is_refused_at_once() -> None:
    with pytest.raises(PromptTooLong, match="need 44 cached tokens, this replica holds 40"):
        scheduler_of(page_count=10).add(request_of(38, max_tokens=4))
    scheduler_of(page_count=10).add(request_of(37, max_tokens=4))


def test_the_queue_is_bounded() -> None:
    scheduler = scheduler_of(max_waiting=2)
    scheduler.add(request_of(4))
    scheduler.add(request_of(4))
    with pytest.raises(QueueFull) as caught:
        scheduler.add(request_of(4))
    assert caught.value.retry_after_seconds


def test_the_latest_arrival_is_preempted_and_comes_back_first() -> None:
    scheduler = scheduler_of(page_count=4)
    early, late = request_of(7, max_tokens=9), request_of(7, max_tokens=9, first_id=500)
    start(scheduler, early, late)
    run(scheduler, scheduler.plan())
    run(scheduler, scheduler.plan())
    plan = scheduler.plan()
    assert plan.preempted == [late]
    assert [chunk.request for chunk in plan.chunks] == [early]
    start(scheduler, late)
    while not run(scheduler, plan):
        plan = scheduler.plan()
        start(scheduler, *plan.preempted)  # while it waits it holds its old prefix, until that is needed too
    assert [chunk.request for chunk in scheduler.plan().chunks] == [late]


class SchedulerMachine(RuleBasedStateMachine):
    """Random arrivals, loads, steps and cancellations on few pages: everything ends, nothing leaks."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = scheduler_of(page_count=9, max_running=4)
        self.loading: list[Request] = []
        self.alive: list[Request] = []

    @rule(
        prompt_count=st.integers(1, 20),
        max_tokens=st.integers(1, 12),
        tenant=st.sampled_from("ab"),
        first_id=st.sampled_from([0, 0, 1000]),
    )
    def arrive(self, prompt_count: int, max_tokens: int, tenant: str, first_id: int) -> None:
        request = request_of(prompt_count, max_tokens, tenant=tenant, first_id=first_id)
        self.scheduler.add(request)
        self.loading.append(request)
        self.alive.append(request)

    @precondition(lambda self: self.loading)
    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.loading))
        self.loading.remove(request)
        self.scheduler.ready(request)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.alive))
        self.scheduler.remove(request)
        self.alive.remove(request)
        if request in self.loading:
            self.loading.remove(request)

    @rule()
    def step(self) -> None:
        plan = self.scheduler.plan()
        assert sum(chunk.token_count for chunk in plan.chunks) <= 16
        planned = [chunk.request for chunk in plan.chunks]
        assert len(set(planned)) == len(planned)
        assert not set(planned) & set(plan.preempted)
        for chunk in plan.chunks:
            held = len(chunk.request.pages) * PAGE_SIZE
            assert chunk.request.computed_count + chunk.token_count <= held
        for request in plan.preempted:
            self.scheduler.add(request)
            self.loading.append(request)
        for request in run(self.scheduler, plan):
            self.alive.remove(request)

    @invariant()
    def consistent(self) -> None:
        self.scheduler.check()

    def teardown(self) -> None:
        for _ in range(2000):
            if not self.alive:
                break
            while self.loading:
                self.scheduler.ready(self.loading.pop())
            self.step()
        assert not self.alive, "a request never ended"
        self.scheduler.check()


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
