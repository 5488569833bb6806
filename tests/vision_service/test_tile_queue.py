"""The order of batches: nothing lost, small requests quick, large ones not starved."""

import random
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from vision_service.tile_queue import Ticket, TileQueue

Arrivals = list[tuple[float, int]]
"""(seconds, tiles), in order."""


def latencies(arrivals: Arrivals, take: Callable[[list[Ticket], int, float], list[tuple[Ticket, int]]]) -> list[float]:
    """Seconds each request takes on a device that does a batch of 16 tiles in 1.6 s, on a virtual clock."""
    budget, seconds_per_tile = 16, 0.1
    now = 0.0
    waiting: list[Ticket] = []
    finished: dict[Ticket, float] = {}
    pending = [(at, Ticket(at, tiles)) for at, tiles in arrivals]
    order = [ticket for _, ticket in pending]
    while pending or waiting:
        while pending and pending[0][0] <= now:
            waiting.append(pending.pop(0)[1])
        if not waiting:
            now = pending[0][0]
            continue
        batch = take(waiting, budget, now)
        now += seconds_per_tile * sum(count for _, count in batch)
        for ticket, _ in batch:
            if ticket.remaining_count == 0:
                finished[ticket] = now - ticket.arrived
        waiting = [ticket for ticket in waiting if ticket.remaining_count]
    return [finished[ticket] for ticket in order]


def in_order(waiting: list[Ticket], budget: int, now: float) -> list[tuple[Ticket, int]]:
    """First come, first served."""
    batch = []
    for ticket in waiting:
        count = min(ticket.remaining_count, budget)
        if count:
            ticket.remaining_count -= count
            budget -= count
            batch.append((ticket, count))
    return batch


def by_queue(waiting: list[Ticket], budget: int, now: float) -> list[tuple[Ticket, int]]:
    queue = TileQueue(max_tiles=1 << 30)
    for ticket in waiting:
        queue.add(ticket)
    return queue.take(budget, now)


def heavy_tailed(load: float, count: int = 4000) -> Arrivals:
    """Poisson arrivals: nine in ten one picture of one tile, one in a hundred a clip of 100 frames."""
    generator = random.Random(0)
    sizes = generator.choices([1, 7, 100], [90, 9, 1], k=count)
    rate = load * 10 / (sum(sizes) / count)
    now, arrivals = 0.0, []
    for size in sizes:
        now += generator.expovariate(rate)
        arrivals.append((now, size))
    return arrivals


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def test_one_picture_does_not_wait_behind_clips_and_clips_still_finish(
    record_property: Callable[[str, object], None],
) -> None:
    arrivals = heavy_tailed(load=0.7)
    sizes = [size for _, size in arrivals]
    slow, quick = latencies(arrivals, in_order), latencies(arrivals, by_queue)

    def worst(values: list[float], size: int) -> float:
        return percentile([value for value, own in zip(values, sizes, strict=True) if own == size], 0.99)

    singles, clips = worst(slow, 1) / worst(quick, 1), worst(quick, 100) / worst(slow, 100)
    record_property("p99 of one picture, times better than first come first served", round(singles, 1))
    record_property("p99 of a clip of 100 frames, times slower", round(clips, 2))
    print(f"one picture: p99 {singles:.1f} times better; clips: p99 {clips:.2f} times slower")  # noqa: T201
    assert singles > 5
    assert clips < 2


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
    queue = TileQueue(max_tiles=1 << 30)
    clip = Ticket(0.0, 100)
    queue.add(clip)
    for second in range(1, 1000):
        for _ in range(4):
            queue.add(Ticket(float(second), 1))
        queue.take(4, float(second))
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
