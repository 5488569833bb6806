"""Room for so many requests, tokens and bytes, and it comes back whatever happens."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tenancy.admission import Admission
from gateway.tenancy.key_file import Limits
from gateway.tenancy.tenants import Tenant
from internvl.errors import QueueFull, RateLimited, RequestTooLarge, ResourceExhausted


def tenant(name: str = "a", **limits: int) -> Tenant:
    return Tenant(name, Limits.model_validate(limits))


async def refusal(admission: Admission, whose: Tenant, size_bytes: int = 1) -> ResourceExhausted:
    with pytest.raises(ResourceExhausted) as caught:
        async with admission.enter(whose, size_bytes=size_bytes):
            pytest.fail("it was let in")
    assert caught.value.retry_after_seconds is not None
    assert caught.value.retry_after_seconds > 0
    return caught.value


async def visit(admission: Admission, whose: Tenant, *, size_bytes: int = 1, token_count: int = 0) -> None:
    async with admission.enter(whose, size_bytes=size_bytes) as entered:
        entered.spend(token_count)


async def test_beyond_the_limit_of_the_gateway_everyone_is_refused() -> None:
    admission = Admission(2)
    async with admission.enter(tenant("a"), size_bytes=1), admission.enter(tenant("b"), size_bytes=1):
        assert isinstance(await refusal(admission, tenant("c")), QueueFull)
    assert admission.running == 0


async def test_a_request_that_fails_makes_room() -> None:
    admission = Admission(1)
    with pytest.raises(ZeroDivisionError):
        async with admission.enter(tenant(), size_bytes=1):
            raise ZeroDivisionError
    await visit(admission, tenant())


async def test_a_tenants_limits_are_its_own() -> None:
    admission = Admission(100)
    one, other = tenant("a", concurrent_requests=1), tenant("b", concurrent_requests=1)
    async with admission.enter(one, size_bytes=1):
        error = await refusal(admission, one)
        assert (type(error), error.metadata) == (RateLimited, {"limit": "concurrent_requests"})
        await visit(admission, other)
    await visit(admission, one)


async def test_bytes_in_flight_are_bounded() -> None:
    admission, whose = Admission(100), tenant(bytes_in_flight=10)
    async with admission.enter(whose, size_bytes=6):
        assert (await refusal(admission, whose, 5)).metadata == {"limit": "bytes_in_flight"}
        await visit(admission, whose, size_bytes=4)
    await visit(admission, whose, size_bytes=10)
    with pytest.raises(RequestTooLarge):
        await visit(admission, whose, size_bytes=11)


async def test_requests_a_minute_are_bounded() -> None:
    admission, whose = Admission(100), tenant(requests_per_minute=3)
    for _ in range(3):
        await visit(admission, whose)
    error = await refusal(admission, whose)
    assert error.metadata == {"limit": "requests_per_minute"}
    assert (error.retry_after_seconds or 0) <= 60
    await visit(admission, tenant("b", requests_per_minute=3))
    assert admission.running == 0


async def test_tokens_are_counted_when_they_are_known() -> None:
    admission, whose = Admission(100), tenant(tokens_per_minute=100)
    await visit(admission, whose, token_count=99)
    await visit(admission, whose, token_count=500)
    error = await refusal(admission, whose)
    assert error.metadata == {"limit": "tokens_per_minute"}
    assert 0 < (error.retry_after_seconds or 0) <= 60


async def test_a_cancelled_request_pays_for_its_tokens() -> None:
    admission, whose, inside = Admission(1), tenant(tokens_per_minute=10), asyncio.Event()

    async def stay() -> None:
        async with admission.enter(whose, size_bytes=1) as entered:
            entered.spend(10)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stay())
    await inside.wait()
    task.cancel()
    await asyncio.wait([task])
    assert admission.running == 0
    assert (await refusal(admission, whose)).metadata == {"limit": "tokens_per_minute"}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 6), st.booleans()), max_size=40))
def test_nobody_is_over_a_limit_and_nothing_is_kept(steps: list[tuple[str, int, bool]]) -> None:
    """Entries and exits in any order: what is inside is always within the limits, and a refusal always has a cause."""

    async def run() -> None:
        admission = Admission(5)
        inside: list[tuple[str, int, asyncio.Event, asyncio.Task[None]]] = []

        async def stay(whose: Tenant, size: int, leave: asyncio.Event) -> None:
            async with admission.enter(whose, size_bytes=size):
                await leave.wait()

        for name, size, leaves in steps:
            if leaves and inside:
                *_, leave, task = inside.pop(0)
                leave.set()
                await task
                continue
            leave = asyncio.Event()
            task = asyncio.create_task(stay(tenant(name, concurrent_requests=3, bytes_in_flight=8), size, leave))
            await asyncio.sleep(0)
            counts = Counter(each[0] for each in inside)
            total_bytes = sum(each[1] for each in inside if each[0] == name)
            if len(inside) < 5 and counts[name] < 3 and total_bytes + size <= 8:
                inside.append((name, size, leave, task))
            else:
                with pytest.raises(ResourceExhausted):
                    await task
            assert admission.running == len(inside)
        for *_, leave, task in inside:
            leave.set()
            await task
        assert admission.running == 0
        assert not admission._bytes

    asyncio.run(run())
