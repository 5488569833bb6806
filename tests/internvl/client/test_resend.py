"""A reply that is sent again reaches its reader once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internvl.client.events import Delta, Event, Finished, Started, Timing, TokenLogprob, Usage
from internvl.client.resend import RESENDS, Absence, Seen
from internvl.errors import BackendUnavailable, Draining, ModelMismatch, Unavailable
from internvl.transport.deadline import Deadline

END = Finished("stop", Usage(1, 0, 0, 3, ()), Timing(0.0, 0.0, 0.0))


def token(index: int) -> TokenLogprob:
    return TokenLogprob(index, b"", 0.0, ())


@given(pieces=st.lists(st.text(max_size=4), max_size=6), cuts=st.lists(st.integers(0, 8), max_size=5))
def test_cut_anywhere_the_text_and_tokens_are_whole(pieces: list[str], cuts: list[int]) -> None:
    reply: list[Event] = [Started("id", "model", ())]
    reply += [Delta(text, (token(index),)) for index, text in enumerate(pieces)]
    reply.append(END)
    seen, heard = Seen(), []
    for cut in [*cuts, len(reply)]:
        seen.begin()
        heard += [news for event in reply[:cut] if (news := seen.news(event)) is not None]
        if cut >= len(reply):
            break
    assert heard == reply


def test_text_that_is_cut_otherwise_the_second_time() -> None:
    seen = Seen()
    seen.begin()
    assert seen.news(Delta("abc")) == Delta("abc")
    seen.begin()
    assert [seen.news(Delta(text)) for text in ("a", "bcd", "e")] == [None, Delta("d"), Delta("e")]


def test_another_reply_is_never_mixed_in() -> None:
    seen = Seen()
    seen.begin()
    seen.news(Delta("abc"))
    seen.begin()
    with pytest.raises(ValueError, match="broke off"):
        seen.news(Delta("abd"))
    seen.begin()
    with pytest.raises(ValueError, match="broke off"):
        seen.news(END)


@pytest.mark.parametrize("error", [BackendUnavailable("gone"), Draining("going"), Unavailable("died")])
def test_an_absent_gateway_is_asked_a_few_times_more(error: Unavailable) -> None:
    absence = Absence(Deadline.after(300.0))
    for _ in range(2):
        pauses = [absence.pause(error) for _ in range(RESENDS)]
        assert sum(pauses) < 4.0
        with pytest.raises(type(error)):
            absence.pause(error)
        absence.is_over()


def test_a_roll_out_is_waited_for_until_the_deadline() -> None:
    error, patient, hurried = ModelMismatch("differ"), Absence(Deadline.after(300.0)), Absence(Deadline.after(0.3))
    assert all(0 < patient.pause(error) <= 1.0 for _ in range(100))
    assert [hurried.pause(error) < 0.3 for _ in range(3)] == [True] * 3
    with pytest.raises(ModelMismatch):  # the fourth pause may be short enough, the fifth is not
        [hurried.pause(error) for _ in range(2)]
    assert Absence(Deadline.after(None)).pause(error) > 0
