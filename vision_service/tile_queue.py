"""Which tiles go into the next batch. Pure: counts tiles, touches none.

Whoever needs fewest tiles to be finished goes first, so that one picture never waits behind a clip of a hundred
frames; waiting counts as well, so that the clip still finishes under a steady stream of pictures.
"""

from dataclasses import dataclass


@dataclass(eq=False)
class Ticket:
    """One request's place in the queue."""

    arrived: float
    """Seconds."""
    remaining_count: int
    """Tiles that no batch has taken yet."""


class TileQueue:
    """Tickets ordered by remaining tiles, less `tiles_per_second` for every second waited."""

    def __init__(self, *, max_tiles: int, tiles_per_second: float = 0.5) -> None:
        self._max_tiles = max_tiles
        self._tiles_per_second = tiles_per_second
        self._tickets: list[Ticket] = []

    @property
    def tile_count(self) -> int:
        """Tiles waiting."""
        return sum(ticket.remaining_count for ticket in self._tickets)

    def has_room(self, tile_count: int) -> bool:
        """Whether so many more tiles may wait. An empty queue takes any one request."""
        return not self._tickets or self.tile_count + tile_count <= self._max_tiles

    def add(self, ticket: Ticket) -> None:
        self._tickets.append(ticket)

    def remove(self, ticket: Ticket) -> None:
        """Takes out a ticket that may have left already."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def take(self, budget: int, now: float) -> list[tuple[Ticket, int]]:
        """The tickets of the next batch, and how many tiles each may send; at most `budget` in all."""
        batch = []
        for ticket in sorted(self._tickets, key=lambda ticket: self._urgency(ticket, now)):
            count = min(ticket.remaining_count, budget)
            if count == 0:
                break
            ticket.remaining_count -= count
            budget -= count
            batch.append((ticket, count))
        self._tickets = [ticket for ticket in self._tickets if ticket.remaining_count]
        return batch

    def _urgency(self, ticket: Ticket, now: float) -> float:
        return ticket.remaining_count - self._tiles_per_second * (now - ticket.arrived)
