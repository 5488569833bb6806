"""A vision service under load while its Redis restarts, is flushed, full, slow, silent, and answers garbage."""

from bench.soak.readers import PATIENCE_SECONDS
from bench.soak.run import soak


async def test_no_wrong_rows_no_hanging_request_and_no_growth() -> None:
    outcome = await soak(seconds=8, replica_count=1, readers=6, pictures=30, kills=False)
    assert outcome.wrong == 0
    assert outcome.hanging == 0
    assert not outcome.unexpected
    assert outcome.right > 0
    assert outcome.slowest_seconds < PATIENCE_SECONDS
    assert set(outcome.faults) >= {"restarted", "flushed", "full", "evicting", "bits flipped", "values exchanged"}
    assert set(outcome.faults) >= {f"replies {fault}" for fault in ("stall", "slow", "cut", "flip", "garbage")}
    assert outcome.last_memory_bytes < outcome.first_memory_bytes + (100 << 20)
