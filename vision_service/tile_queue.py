"""Choice of the tiles of the next batch. Pure: counts tiles, touches none.

The request that has waited longest for its size goes first: an image of one tile that has waited a second passes a
video of a hundred frames that has waited a minute, and yields to one that has waited two. So no request waits out of
proportion, the video still finishes under a steady stream of images, and no constant has to fit the device. (Shortest
remaining first with ageing needs one, tiles per second.)
"""

from dataclasses import dataclass, field


@dataclass(eq=False)
class Ticket:
    """One request's place in the queue."""

    arrived: float
    """Seconds."""
    tile_count: int
    """Tiles of the request."""
    remaining_count: int = field(init=False)
    """Tiles that no batch has taken yet."""

    def __post_init__(self) -> None:
        self.remaining_count = self.tile_count

    def stretch(self, now: float) -> float:
        """Seconds waited for each tile."""
        return (now - self.arrived) / self.tile_count


class TileQueue:
    """Tickets ordered by their stretch, the smaller first where it is equal."""

    def __init__(self, *, max_tiles: int) -> None:
        self._max_tiles = max_tiles
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
        for ticket in sorted(self._tickets, key=lambda ticket: (-ticket.stretch(now), ticket.tile_count)):
            count = min(ticket.remaining_count, budget)
            if count == 0:
                break
            ticket.remaining_count -= count
            budget -= count
            batch.append((ticket, count))
        self._tickets = [ticket for ticket in self._tickets if ticket.remaining_count]
        return batch
