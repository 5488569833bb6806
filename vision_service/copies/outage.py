"""Whether Redis can be read. Unreachable means slower, not broken; the log says so once an outage."""

import logging

from internvl.errors import StoreUnavailable

log = logging.getLogger(__name__)


class Outage:
    """State of the reads from Redis."""

    def __init__(self) -> None:
        self.is_on = False
        """Whether the last read failed."""

    def note_failure(self, error: StoreUnavailable) -> None:
        """Records a read that failed."""
        if not self.is_on:
            log.warning("serving without the embedding store", extra={"cause": error.message})
        self.is_on = True

    def note_answer(self) -> None:
        """Records a read or write that succeeded."""
        if self.is_on:
            log.info("the embedding store answers again")
        self.is_on = False
