"""The order of batches: nothing lost, small requests quick, large ones not starved."""

import random
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_service.tile_queue import Ticket, TileQueue

Arrivals = list[tuple[float, int]]
"""(seconds, tiles), in order."""


Policy = Callable[[list[Ticket], float], list[tuple[Ticket, int]]]
SECONDS_PER_TILE = 0.1


def latencies(arrivals: Arrivals, take: Policy) -> list[float]:
    """Seconds each request takes, on a virtual clock, on a device whose batches take as long as their tiles.

    So a CPU does it (docs/benchmarks.md, Encoding: a tile of a batch takes as long as one alone).
    """
    now = 0.0
    waiting: list[Ticket] = []
    finished: dict[Ticket, float] = {}
    order = [Ticket(at, tiles) for at, tiles in arrivals]
    pending = deque(order)
    while pending or waiting:
        while pending and pending[0].arrived <= now:
            waiting.append(pending.popleft())
        if not waiting:
            now = pending[0].arrived
            continue
        batch = take(waiting, now)
        now += SECONDS_PER_TILE * sum(count for _, count in batch)
        for ticket, _ in batch:
            if ticket.remaining_count == 0:
                finished[ticket] = now - ticket.arrived
        waiting = [ticket for ticket in waiting if ticket.remaining_count]
    return [finished[ticket] for ticket in order]


def in_order(waiting: list[Ticket], now: float) -> list[tuple[Ticket, int]]:
    """First come, first served, in batches of 16."""
    batch, budget = [], 16
    for ticket in waiting:
        count = min(ticket.remaining_count, budget)
        if count:
            ticket.remaining_count -= count
            budget -= count
            batch.append((ticket, count))
    return batch


def by_queue(waiting: list[Ticket], now: float) -> list[tuple[Ticket, int]]:
    """As the service does on a CPU, in batches of 4."""
    queue = TileQueue(max_tiles=1 << 30)
    for ticket in waiting:
        queue.add(ticket)
    return queue.take(4, now)


def heavy_tailed(clips_in_a_hundred: int, count: int = 4000, load: float = 0.7) -> Arrivals:
    """Poisson arrivals: nine in ten one picture of one tile, some clips of 100 frames, the rest pictures of 7 tiles."""
    generator = random.Random(0)
    sizes = generator.choices([1, 7, 100], [90, 10 - clips_in_a_hundred, clips_in_a_hundred], k=count)
    rate = load / SECONDS_PER_TILE / (sum(sizes) / count)
    now, arrivals = 0.0, []
    for size in sizes:
        now += generator.expovariate(rate)
        arrivals.append((now, size))
    return arrivals


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


@pytest.mark.parametrize(("clips_in_a_hundred", "most_slower"), [(4, 1.3), (1, 1.8)])
def test_one_picture_does_not_wait_behind_clips_and_clips_still_finish(
    clips_in_a_hundred: int, most_slower: float, record_property: Callable[[str, object], None]
) -> None:
    """Where pictures go first, a clip is slower by 1 / (1 - load * pictures' share of the work), whatever the order is.

    With four clips in a hundred requests pictures are a quarter of the work, with one six tenths.
    """
    arrivals = heavy_tailed(clips_in_a_hundred)
    sizes = [size for _, size in arrivals]
    slow, quick = latencies(arrivals, in_order), latencies(arrivals, by_queue)

    def worst(values: list[float], size: int) -> float:
        return percentile([value for value, own in zip(values, sizes, strict=True) if own == size], 0.99)

    better = {size: worst(slow, size) / worst(quick, size) for size in (1, 7)}
    slower = worst(quick, 100) / worst(slow, 100)
    record_property("p99 of one tile, times better than first come first served", round(better[1], 1))
    record_property("p99 of a clip of 100 frames, times slower", round(slower, 2))
    print(  # noqa: T201
        f"{clips_in_a_hundred} clips in 100 requests, p99 against first come first served: one tile {better[1]:.1f} "
        f"times better, seven tiles {better[7]:.1f} times better, a clip {slower:.2f} times slower"
    )
    assert better[1] > 20
    assert better[7] > 3
    assert slower < most_slower


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 20))
def test_every_tile_is_taken_once(counts: list[int], budget: int) -> None:
    queue = TileQueue(max_tiles=1 << 30)
    tickets = [Ticket(0.0, count) for count in counts]
    for ticket in tickets:
        queue.add(ticket)
    taken = dict.fromkeys(tickets, 0)
    while batch := queue.take(budget, 0.0):
        assert 0 < sum(count for _, count in batch) <= budget
        for ticket, count in batch:
            taken[ticket] += count
    assert list(taken.values()) == counts
    assert queue.tile_count == 0


def test_under_a_steady_stream_of_pictures_a_clip_still_moves() -> None:
    """The pictures alone fill nine tenths of the device."""
    queue = TileQueue(max_tiles=1 << 30)
    clip = Ticket(0.0, 100)
    queue.add(clip)
    for turn in range(1, 1000):
        for _ in range(4 if turn % 10 else 0):
            queue.add(Ticket(float(turn), 1))
        queue.take(4, float(turn))
        if not clip.remaining_count:
            return
    raise AssertionError(f"the clip still waits for {clip.remaining_count} tiles")


def test_room_is_bounded_but_one_large_request_always_fits() -> None:
    queue = TileQueue(max_tiles=10)
    assert queue.has_room(500)
    queue.add(Ticket(0.0, 8))
    assert queue.has_room(2)
    assert not queue.has_room(3)


def test_a_ticket_that_left_leaves_nothing() -> None:
    queue = TileQueue(max_tiles=10)
    ticket = Ticket(0.0, 8)
    queue.add(ticket)
    queue.remove(ticket)
    queue.remove(ticket)
    assert queue.tile_count == 0
    assert queue.take(4, 0.0) == []
