"""A literal `<image>` beside images is where they go, if there are as many."""

import pytest

from gateway.placeholders import placed, warnings
from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import visual_pb2
from internvl.llm.v1 import llm_pb2


def made(*parts: str) -> list[llm_pb2.Part]:
    """Texts; `A`, `B` are images, `V` is a video."""
    found = []
    for part in parts:
        visual = llm_pb2.VisualPart(embedding=visual_pb2.EmbeddingReference(key=part))
        if part in ("A", "B"):
            found.append(llm_pb2.Part(image=visual))
        else:
            found.append(llm_pb2.Part(video=visual) if part == "V" else llm_pb2.Part(text=part))
    return found


def asked(*parts: str) -> chat_pb2.ChatRequest:
    message = chat_pb2.Message(role=visual_pb2.ROLE_USER)
    for part in parts:
        if part in ("A", "B"):
            message.parts.append(chat_pb2.Part(image=chat_pb2.Image(data=b"x")))
        else:
            message.parts.append(chat_pb2.Part(text=part))
    return chat_pb2.ChatRequest(messages=[message])


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (("A", "<image>\nWhat is this?"), ("A", "\nWhat is this?")),
        (("<image>\nWhat is this?", "A"), ("A", "\nWhat is this?")),
        (
            ("A", "B", "Image-1: <image>\nImage-2: <image>\nCompare"),
            ("Image-1: ", "A", "\nImage-2: ", "B", "\nCompare"),
        ),
        (("look at <image>", "A", "and <image>", "B"), ("look at ", "A", "and ", "B")),
        (("<image><image>", "A", "B"), ("A", "B")),
        (("V", "A", "is <image> in it?"), ("V", "is ", "A", " in it?")),
    ],
)
def test_as_many_as_images(parts: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    assert placed(made(*parts)) == made(*wanted)
    assert warnings(asked(*(part for part in parts if part != "V"))) == []


@pytest.mark.parametrize(
    "parts", [("A", "<image> <image>"), ("A", "B", "<image> and"), ("A", "what is <image>, <image>?", "B", "<image>")]
)
def test_another_number(parts: tuple[str, ...]) -> None:
    assert placed(made(*parts)) == made(*parts)
    (warning,) = warnings(asked(*parts))
    assert warning.startswith("messages[0] has ")
    assert "<image>" in warning


@pytest.mark.parametrize("parts", [("what does <image> mean?",), ("A", "what is this?"), ("V", "<image>"), ("",)])
def test_nothing_to_place(parts: tuple[str, ...]) -> None:
    assert placed(made(*parts)) == made(*parts)
    assert warnings(asked(*(part for part in parts if part != "V"))) == []
