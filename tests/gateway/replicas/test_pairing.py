"""Which checkpoint is served, of those the replicas have."""

from gateway.replicas.pairing import identity, pair
from internvl.common.v1.visual_pb2 import ModelInfo
from internvl.errors import BackendUnavailable, ModelMismatch
from tests.support.fakes import model_info

OLD, NEW = model_info("0" * 64), model_info("1" * 64)


def paired(vision: list[ModelInfo], llm: list[ModelInfo], current: ModelInfo | None = None) -> ModelInfo:
    found = pair(vision, llm, current)
    assert isinstance(found, ModelInfo)
    return found


def test_the_checkpoint_that_most_replicas_have_is_served() -> None:
    assert paired([OLD, OLD, NEW], [NEW, OLD, OLD]) == OLD
    assert paired([OLD, OLD, OLD, NEW], [NEW]) == NEW


def test_a_roll_out_moves_over_once_and_only_when_it_must() -> None:
    assert paired([OLD, NEW, NEW], [OLD, NEW, NEW], OLD) == OLD
    assert paired([NEW, NEW], [OLD, NEW], OLD) == NEW


def test_limits_may_differ() -> None:
    longer = model_info("0" * 64)
    longer.max_positions = 9999
    assert identity(longer) == identity(OLD)
    assert paired([OLD], [longer]).max_positions == 9999


def test_why_there_is_none() -> None:
    assert isinstance(pair([], [OLD], None), BackendUnavailable)
    assert isinstance(pair([OLD], [], None), BackendUnavailable)
    mismatch = pair([OLD], [NEW], OLD)
    assert isinstance(mismatch, ModelMismatch)
    assert "fingerprint differ" in mismatch.message
