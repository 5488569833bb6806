"""Conversation to prompt: token ids, and where the visual tokens are. Step 6 of the data's path.

The template is internvl2_5. Images are placed by structure, and text is tokenized with special tokens disabled but for
the tags of grounding, so that nothing a user writes ends a turn or steals an image's place; on any other text the
prompt equals that of OpenGVLab's `chat()`.

    <|im_start|>system\\n{system}<|im_end|>\\n<|im_start|>user\\n{parts}<|im_end|>\\n<|im_start|>assistant\\n

Tools, calls and their results are written as Qwen2.5's template writes them (`llm_service.output.tools`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from tokenizers import Tokenizer

from llm_service.conversation import Combined, Message, Role, Visual
from llm_service.output.tools import Tool, calls_text, response_text, tools_section
from shared.checkpoint.tokenizer import TokenizerUnsupported

GROUNDING_TAGS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
"""Tokens a user may write: they mark regions and phrases, and give no control over the conversation."""
_GROUNDING = re.compile(f"({'|'.join(GROUNDING_TAGS)})")


class Control(Enum):
    """Tokens that only the template writes."""

    TURN_START = "<|im_start|>"
    TURN_END = "<|im_end|>"
    IMAGE_START = "<img>"
    IMAGE_END = "</img>"
    IMAGE_TOKEN = "<IMG_CONTEXT>"


@dataclass(frozen=True)
class Frame:
    """One `<img>...</img>` block: an image, or one frame of a video. Images of a combined image share one."""

    visual: Visual
    first_tile: int
    """Index among the visual's tiles."""
    tile_count: int
    opens: bool = True
    """Whether `<img>` stands before it."""
    closes: bool = True
    """Whether `</img>` stands after it."""

    @property
    def token_count(self) -> int:
        return self.tile_count * self.visual.tokens_per_tile


Segment = str | Control | Frame
_IMAGES = (Visual, Combined)


@dataclass(frozen=True)
class PlacedFrame:
    """A frame whose visual tokens start at prompt index `start`."""

    frame: Frame
    start: int


@dataclass(frozen=True)
class Prompt:
    """Input of the model."""

    token_ids: list[int]
    frames: tuple[PlacedFrame, ...]


class PromptBuilder:
    """Renders conversations for one tokenizer and one default system message."""

    def __init__(self, tokenizer: Tokenizer, system_message: str) -> None:
        self._tokenizer = tokenizer
        tokenizer.encode_special_tokens = True  # a special token in a user's text is text
        self._system_message = system_message
        self._ids = {control: _control_id(tokenizer, control) for control in Control}
        self._added = {token.content: token_id for token_id, token in tokenizer.get_added_tokens_decoder().items()}
        self._grounding_ids = {tag: self._added[tag] for tag in GROUNDING_TAGS if tag in self._added}

    @property
    def stop_token_id(self) -> int:
        """The only token that ends a reply, whatever config.json calls eos."""
        return self._ids[Control.TURN_END]

    def is_token(self, tag: str) -> bool:
        """Whether the tokenizer has the tag as one token."""
        return tag in self._added

    def build(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Prompt:
        """The prompt that asks for an answer to the last message, with `tools` at hand."""
        token_ids: list[int] = []
        frames: list[PlacedFrame] = []
        for segment in _merged(render(messages, self._system_message, tools)):
            match segment:
                case str():
                    token_ids += self._tokenize(segment)
                case Control():
                    token_ids.append(self._ids[segment])
                case Frame():
                    token_ids += [self._ids[Control.IMAGE_START]] * segment.opens
                    frames.append(PlacedFrame(segment, len(token_ids)))
                    token_ids += [self._ids[Control.IMAGE_TOKEN]] * segment.token_count
                    token_ids += [self._ids[Control.IMAGE_END]] * segment.closes
        return Prompt(token_ids, tuple(frames))

    def _tokenize(self, text: str) -> list[int]:
        token_ids: list[int] = []
        for piece in _GROUNDING.split(text):
            if piece in self._grounding_ids:
                token_ids.append(self._grounding_ids[piece])
            elif piece:
                token_ids += self._tokenizer.encode(piece, add_special_tokens=False).ids
        return token_ids


def render(messages: Sequence[Message], system_message: str, tools: Sequence[Tool] = ()) -> Iterator[Segment]:
    """The template's segments. A first message of the system replaces the default one; further ones are turns."""
    rest = list(messages)
    if rest and rest[0].role is Role.SYSTEM:
        system_message = rest.pop(0).text
    yield from _turn(Role.SYSTEM, (system_message, tools_section(tools) if tools else ""))
    laid_out = zip(rest, lay_out(rest), strict=True)
    for is_tool, turns in groupby(laid_out, key=lambda turn: turn[0].role is Role.TOOL):
        if is_tool:  # the results of one message's calls are one turn of the user
            results = "".join(response_text(message.text) for message, _ in turns)
            yield from _turn(Role.USER, (results.removeprefix("\n"),))
            continue
        for message, parts in turns:
            yield from _turn_of(message, parts)
    yield from (Control.TURN_START, f"{Role.ASSISTANT.value}\n")


def _turn_of(message: Message, parts: Sequence[str | Frame]) -> Iterator[Segment]:
    calls = calls_text(message.tool_calls)
    if any(parts):
        yield from _turn(message.role, (*parts, calls))
    elif calls:
        yield from _turn(message.role, (calls.removeprefix("\n"),))
    else:  # of an empty turn the reference writes the header only
        yield from (Control.TURN_START, f"{message.role.value}\n")


def lay_out(messages: Sequence[Message]) -> list[tuple[str | Frame, ...]]:
    """The text and frames of each message, with the line breaks and labels the models were trained with.

    - An image inside a line of text stays there: "Look at <image> and answer.".
    - Any other image has a line of its own: "<image>\\nWhat is this?", "What is this?\\n<image>".
    - Images without text between them are labelled, counting over the conversation: "Image-1: <image>\\n".
    - A video is its frames: "Frame1: <image>\\nFrame2: <image>\\n".

    An image or video that is to stand as given gets none of it: its text says where lines end and what it is called.
    """
    laid_out = []
    picture_count = 0
    for message in messages:
        laid_out.append(tuple(_lay_out_parts(message.parts, picture_count)))
        picture_count += sum(not isinstance(part, str) and not part.is_clip for part in message.parts)
    return laid_out


def _lay_out_parts(parts: Sequence[str | Visual | Combined], picture_count: int) -> Iterator[str | Frame]:
    at_line_start = True
    padded = (None, *parts, None)
    for before, part, after in zip(padded, parts, padded[2:], strict=False):
        if isinstance(part, str):
            yield part
            at_line_start = part.endswith("\n") if part else at_line_start
            continue
        picture_count += not part.is_clip
        if part.is_as_given:
            yield from _lines(part, "")
            at_line_start = False
            continue
        if not at_line_start and (part.is_clip or not isinstance(after, str)):
            yield "\n"
            at_line_start = True
        is_labelled = at_line_start and (isinstance(before, _IMAGES) or isinstance(after, _IMAGES))
        yield from _lines(part, f"Image-{picture_count}: " if is_labelled else "")
        text_goes_on = isinstance(after, str) and after.startswith("\n")
        if at_line_start and after is not None and not text_goes_on:
            yield "\n"
        else:
            at_line_start = False


def _lines(visual: Visual | Combined, label: str) -> Iterator[str | Frame]:
    """An image behind its label, or the frames of a video, a line each; the last line is not ended."""
    if isinstance(visual, Combined):
        yield label
        last = len(visual.visuals) - 1
        for index, each in enumerate(visual.visuals):
            yield Frame(each, 0, each.tile_count, opens=index == 0, closes=index == last)
        return
    first_tile = 0
    for index, tile_count in enumerate(visual.frame_tile_counts):
        if visual.is_clip:
            label = f"Frame{index + 1}: " if index == 0 else f"\nFrame{index + 1}: "
        yield label
        yield Frame(visual, first_tile, tile_count)
        first_tile += tile_count


def _turn(role: Role, parts: Sequence[str | Frame]) -> Iterator[Segment]:
    yield from (Control.TURN_START, f"{role.value}\n", *parts, Control.TURN_END, "\n")


def _merged(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Joins neighbouring texts: a tokenizer must see each run between control tokens whole."""
    text = ""
    for segment in segments:
        if isinstance(segment, str):
            text += segment
            continue
        if text:
            yield text
        text = ""
        yield segment
    if text:
        yield text


def _control_id(tokenizer: Tokenizer, control: Control) -> int:
    token_id = tokenizer.token_to_id(control.value)
    if token_id is None:
        raise TokenizerUnsupported(f"the tokenizer has no token {control.value}")
    return token_id
