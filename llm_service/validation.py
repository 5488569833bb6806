"""Requests from protobuf to our own types, every field checked. Raises BadOption and BadMessages with field paths."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from internvl.common.v1 import sampling_pb2, visual_pb2
from internvl.errors import BadMessages, BadOption
from internvl.llm.v1 import llm_pb2
from llm_service.conversation import Auto, Combined, Increment, Message, Role, Visual
from llm_service.engine.interface import SamplingParameters
from llm_service.generation import GenerationRequest
from llm_service.output.tools import ToolCall
from llm_service.output.wire import output_form, tools
from llm_service.positions import increment_ticks
from shared.sampling_options import check_sampling
from shared.tool_options import check_tools

_ROLES = {
    visual_pb2.ROLE_SYSTEM: Role.SYSTEM,
    visual_pb2.ROLE_USER: Role.USER,
    visual_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    visual_pb2.ROLE_TOOL: Role.TOOL,
}


@dataclass(frozen=True)
class _Shown:
    """Options of an image or video that are not the vision service's."""

    increment: Increment
    is_as_given: bool


def generation_request(request: llm_pb2.GenerateRequest, *, default_increment: int) -> GenerationRequest:
    """The request in our own types."""
    default = _shown(request.visual, _Shown(default_increment, is_as_given=False), "visual")
    sampling = request.sampling
    check_sampling(sampling)
    check_tools(request.tools, sampling)
    return GenerationRequest(
        tenant=request.tenant,
        messages=_messages(request.messages, default),
        sampling=_sampling(sampling),
        max_tokens=sampling.max_tokens if sampling.HasField("max_tokens") else None,
        stop=list(sampling.stop),
        resume_ids=list(request.resume_token_ids),
        form=output_form(sampling.output, "sampling.output"),
        tools=tools(request.tools),
        stop_token_ids=frozenset(sampling.stop_token_ids),
        includes_stop=sampling.include_stop,
        ignores_end=sampling.ignore_eos,
    )


def _messages(messages: Sequence[llm_pb2.Message], default: _Shown) -> list[Message]:
    if not messages:
        raise BadMessages("there is no message to answer", field="messages")
    if messages[-1].role not in (visual_pb2.ROLE_USER, visual_pb2.ROLE_TOOL):
        raise BadMessages(
            "the last message must be the user's or a tool's", field=f"messages[{len(messages) - 1}].role"
        )
    return [_message(message, index, default) for index, message in enumerate(messages)]


def _message(message: llm_pb2.Message, index: int, default: _Shown) -> Message:
    field = f"messages[{index}]"
    role = _ROLES.get(message.role)
    if role is None:
        raise BadMessages("a message needs a role", field=f"{field}.role")
    parts = tuple(_part(part, f"{field}.parts[{place}]", default) for place, part in enumerate(message.parts))
    if role is not Role.USER and any(not isinstance(part, str) for part in parts):
        raise BadMessages("only user messages hold images and videos", field=f"{field}.parts")
    if role is not Role.ASSISTANT and message.tool_calls:
        raise BadMessages("only the assistant calls tools", field=f"{field}.tool_calls")
    return Message(role, parts, tuple(ToolCall(call.name, call.arguments) for call in message.tool_calls))


def _shown(options: visual_pb2.VisualOptions, default: _Shown, field: str) -> _Shown:
    layout = options.layout
    if layout not in visual_pb2.Layout.values():
        raise BadOption(f"there is no layout {layout}", field=f"{field}.layout")
    return _Shown(
        increment=_increment(options, default.increment, f"{field}.position_increment"),
        is_as_given=layout == visual_pb2.LAYOUT_AS_GIVEN if layout else default.is_as_given,
    )


def _part(part: llm_pb2.Part, field: str, default: _Shown) -> str | Visual | Combined:
    match part.WhichOneof("part"):
        case "text":
            return part.text
        case "image":
            shown = _shown(part.image.visual, default, f"{field}.image.visual")
            counts = tuple(part.image.frame_tile_counts)
            return _visual(part.image.embedding, counts, shown, f"{field}.image", is_clip=False)
        case "video":
            shown = _shown(part.video.visual, default, f"{field}.video.visual")
            counts = tuple(part.video.frame_tile_counts)
            return _visual(part.video.embedding, counts, shown, f"{field}.video", is_clip=True)
        case "combined":
            return _combined(part.combined, f"{field}.combined", default)
        case _:
            raise BadMessages("a part is empty", field=field)


def _combined(part: llm_pb2.CombinedPart, field: str, default: _Shown) -> Combined:
    if not part.embeddings:
        raise BadMessages("a combined image needs an image", field=f"{field}.embeddings")
    shown = _shown(part.visual, default, f"{field}.visual")
    return Combined(
        tuple(
            _visual(embedding, (), shown, f"{field}.embeddings[{index}]", is_clip=False)
            for index, embedding in enumerate(part.embeddings)
        )
    )


def _visual(
    embedding: visual_pb2.EmbeddingReference, counts: tuple[int, ...], shown: _Shown, field: str, *, is_clip: bool
) -> Visual:
    """`counts`: tiles of each frame; of an image none."""
    if len(embedding.key) != 64 or embedding.tile_count < 1 or embedding.tokens_per_tile < 1:
        raise BadOption("an embedding needs a key of 64 digits, tiles and tokens", field=f"{field}.embedding")
    counts = counts or (embedding.tile_count,)
    if min(counts) < 1 or sum(counts) != embedding.tile_count or (len(counts) > 1 and not is_clip):
        raise BadOption("the frames' tiles do not add up to the embedding's", field=f"{field}.frame_tile_counts")
    return Visual(
        key=embedding.key,
        tokens_per_tile=embedding.tokens_per_tile,
        frame_tile_counts=counts,
        is_clip=is_clip,
        increment=shown.increment,
        holder=embedding.holder,
        is_as_given=shown.is_as_given,
    )


def _increment(options: visual_pb2.VisualOptions, default: Increment, field: str) -> Increment:
    match options.WhichOneof("increment"):
        case "position_increment":
            try:
                return increment_ticks(options.position_increment)
            except ValueError as error:
                raise BadOption(str(error), field=field) from error
        case "auto_increment":
            return Auto.AUTO
        case _:
            return default


def _sampling(options: sampling_pb2.SamplingOptions) -> SamplingParameters:
    """With the defaults of fields that are unset; those that are set have been checked.

    Options have the names of parameters, but for those whose form differs.
    """
    same = {each.name for each in fields(SamplingParameters)} - {"seed", "logit_bias"}
    given: dict[str, Any] = {option.name: value for option, value in options.ListFields() if option.name in same}
    return SamplingParameters(
        seed=options.seed if options.HasField("seed") else secrets.randbelow(1 << 64),
        logit_bias=tuple(sorted(options.logit_bias.items())),
        **given,
    )
