"""A reply cut anywhere and resumed hands on every event once."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from gateway.replicas.reply import Reply
from internvl.common.v1 import sampling_pb2
from internvl.llm.v1 import llm_pb2

TEXTS = ["a", "", "b ", "c"]


def replica(request: llm_pb2.GenerateRequest) -> Iterator[llm_pb2.GenerateResponse]:
    """What any replica sends: four tokens, text held back at the end, the end."""
    seed = request.sampling.seed if request.sampling.HasField("seed") else 77
    yield llm_pb2.GenerateResponse(started=llm_pb2.Started(seed=seed))
    for index in range(len(request.resume_token_ids), len(TEXTS)):
        yield llm_pb2.GenerateResponse(delta=llm_pb2.Delta(text=TEXTS[index], token_ids=[100 + index]))
    yield llm_pb2.GenerateResponse(delta=llm_pb2.Delta(text="!"))
    usage = sampling_pb2.Usage(completion_token_count=len(TEXTS))
    yield llm_pb2.GenerateResponse(finished=llm_pb2.Finished(usage=usage))


@given(st.lists(st.integers(0, 7), max_size=6))
def test_cut_anywhere_any_number_of_times(cuts: list[int]) -> None:
    asked = llm_pb2.GenerateRequest(tenant="t")
    reply, events = Reply(asked), []
    for cut in [*cuts, None]:
        request = reply.request
        assert request.tenant == "t"
        for index, event in enumerate(replica(request)):
            if index == cut:
                break
            events += reply.take(event)
        if events and events[-1].HasField("finished"):
            break
        reply.restart()
    assert list(events) == list(replica(asked))
    assert not asked.resume_token_ids


def test_other_embeddings_keep_what_is_there() -> None:
    reply = Reply(llm_pb2.GenerateRequest(tenant="old"))
    for event in list(replica(reply.request))[:3]:
        reply.take(event)
    reply.replace(llm_pb2.GenerateRequest(tenant="new"))
    assert (reply.request.tenant, list(reply.request.resume_token_ids)) == ("new", [100, 101])
    assert reply.request.sampling.seed == 77
