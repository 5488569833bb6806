"""Events as clients see them."""

from gateway.reply_events import ReplyEvents
from gateway.translation import Encoded
from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import sampling_pb2, tools_pb2, visual_pb2
from internvl.llm.v1 import llm_pb2


def events() -> ReplyEvents:
    return ReplyEvents(chat_pb2.ChatRequest(), [])


def test_deltas_that_show_nothing_are_kept_back() -> None:
    assert events().delta(llm_pb2.Delta(token_ids=[5])) is None
    logprob = sampling_pb2.TokenLogprob(token_id=5, logprob=-1.0)
    shown = events().delta(llm_pb2.Delta(token_ids=[5], logprobs=[logprob]))
    assert shown is not None
    assert shown.delta.logprobs == [logprob]


def test_a_call_has_an_id_that_no_other_call_has() -> None:
    first, second = events(), events()
    deltas = [
        told.delta(llm_pb2.Delta(tool_calls=[tools_pb2.ToolCallDelta(index=index, name="f")]))
        for told in (first, second)
        for index in range(2)
    ]
    ids = {delta.delta.tool_calls[0].id for delta in deltas if delta is not None}
    assert len(ids) == 4
    rest = first.delta(llm_pb2.Delta(tool_calls=[tools_pb2.ToolCallDelta(index=1, arguments="{}")]))
    assert rest is not None
    assert rest.delta.tool_calls[0].id == ""


def test_a_combined_image_is_one_image_of_no_size() -> None:
    """The region of the image after it has that image's number and pixels."""
    picture = chat_pb2.Image(data=b"x")
    combined = chat_pb2.Part(combined=chat_pb2.CombinedImage(images=[picture, picture]))
    message = chat_pb2.Message(parts=[combined, chat_pb2.Part(image=picture)])
    encoded = [
        Encoded(visual_pb2.EmbeddingReference(), "m", cached=True, source_count=1, width=side, height=side)
        for side in (10, 20, 3000)
    ]
    told = ReplyEvents(chat_pb2.ChatRequest(messages=[message]), encoded)
    box = "<box>[[0, 0, 500, 500]]</box>"
    delta = told.delta(llm_pb2.Delta(text=f"Image-1 {box} and Image-2 {box}"))
    assert delta is not None
    first, second = delta.delta.regions
    assert (first.image_index, first.HasField("pixels")) == (0, False)
    assert (second.image_index, second.pixels.x2) == (1, 1500)
