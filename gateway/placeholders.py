"""Literal `<image>` in the text of a message that also holds images: the place where an image goes.

Prompts for InternVL are often written so, with the images beside the text. Where a message has as many placeholders as
images, each image moves to its place, in order; where it has not, the text stays and a warning tells of it.
"""

from collections.abc import Iterator, Sequence

from internvl.chat.v1 import chat_pb2
from internvl.llm.v1 import llm_pb2

PLACEHOLDER = "<image>"


def placed(parts: Sequence[llm_pb2.Part]) -> list[llm_pb2.Part]:
    """The parts of a message with each image at its placeholder, if there are as many; else as they stand."""
    images = [part for part in parts if _is_image(part)]
    if not images or _placeholder_count(parts) != len(images):
        return list(parts)
    rest = iter(images)
    return [piece for part in parts if not _is_image(part) for piece in _pieces(part, rest)]


def warnings(request: chat_pb2.ChatRequest) -> list[str]:
    """One for each message whose placeholders fit no images."""
    found = []
    for index, message in enumerate(request.messages):
        image_count = sum(map(_is_image, message.parts))
        placeholder_count = _placeholder_count(message.parts)
        if image_count and placeholder_count not in (0, image_count):
            found.append(
                f"messages[{index}] has {image_count} image(s) and {PLACEHOLDER} {placeholder_count} time(s) in its "
                "text: the text was left as it is, and each image where its part stands"
            )
    return found


def _is_image(part: llm_pb2.Part | chat_pb2.Part) -> bool:
    return part.HasField("image") or part.HasField("combined")


def _placeholder_count(parts: Sequence[llm_pb2.Part] | Sequence[chat_pb2.Part]) -> int:
    return sum(part.text.count(PLACEHOLDER) for part in parts if part.HasField("text"))


def _pieces(part: llm_pb2.Part, images: Iterator[llm_pb2.Part]) -> Iterator[llm_pb2.Part]:
    """A text cut at its placeholders, an image at each cut; any other part as it stands."""
    if not part.HasField("text"):
        yield part
        return
    first, *more = part.text.split(PLACEHOLDER)
    if first or not more:
        yield llm_pb2.Part(text=first)
    for text in more:
        yield next(images)
        if text:
            yield llm_pb2.Part(text=text)
