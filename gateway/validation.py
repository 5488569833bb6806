"""Checks of a request. Raises BadMessages and BadOption that name the field; looks at no media bytes."""

import math

from gateway.request_limits import RequestLimits
from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import visual_pb2
from internvl.errors import BadMessages, BadOption
from internvl.increments import INCREMENTS
from shared.sampling_options import check_sampling
from shared.tool_options import check_tools

_ROLES = (visual_pb2.ROLE_SYSTEM, visual_pb2.ROLE_USER, visual_pb2.ROLE_ASSISTANT, visual_pb2.ROLE_TOOL)


def check_request(request: chat_pb2.ChatRequest, limits: RequestLimits) -> None:
    """Everything but the media's sources, which `gateway.media.files` reads."""
    _check_conversation(request, limits)
    for index, message in enumerate(request.messages):
        _check_message(message, f"messages[{index}]", limits)
    check_sampling(request.sampling)
    check_tools(request.tools, request.sampling)
    _check_visual(request.visual, "visual")


def _check_conversation(request: chat_pb2.ChatRequest, limits: RequestLimits) -> None:
    messages = request.messages
    if not messages:
        raise BadMessages("there is no message to answer", field="messages")
    if len(messages) > limits.message_count:
        raise BadMessages(f"{len(messages)} messages, at most {limits.message_count} are allowed", field="messages")
    call_ids: set[str] = set()
    for index, message in enumerate(messages):
        _check_turn(message, f"messages[{index}]", call_ids)
    if messages[-1].role not in (visual_pb2.ROLE_USER, visual_pb2.ROLE_TOOL):
        field = f"messages[{len(messages) - 1}].role"
        raise BadMessages("the last message must be the user's or a tool's", field=field)


def _check_turn(message: chat_pb2.Message, field: str, call_ids: set[str]) -> None:
    """`call_ids`: of the calls so far that have no result; changed by this message."""
    if message.role not in _ROLES:
        raise BadMessages("a message needs a role", field=f"{field}.role")
    if message.tool_calls and message.role != visual_pb2.ROLE_ASSISTANT:
        raise BadMessages("only the assistant calls tools", field=f"{field}.tool_calls")
    for index, call in enumerate(message.tool_calls):
        if not call.name:
            raise BadMessages("a call needs a name", field=f"{field}.tool_calls[{index}].name")
        call_ids.add(call.id)
    if message.role == visual_pb2.ROLE_TOOL:
        if message.tool_call_id not in call_ids:
            raise BadMessages("no message before calls a tool under this id", field=f"{field}.tool_call_id")
        call_ids.remove(message.tool_call_id)
    elif message.tool_call_id:
        raise BadMessages("only a tool's message is the result of a call", field=f"{field}.tool_call_id")


def _check_message(message: chat_pb2.Message, field: str, limits: RequestLimits) -> None:
    count = len(message.parts)
    if count == 0 and message.role == visual_pb2.ROLE_USER:
        raise BadMessages("a message is empty", field=f"{field}.parts")
    if count > limits.part_count:
        raise BadMessages(f"{count} parts, at most {limits.part_count} are allowed", field=f"{field}.parts")
    for index, part in enumerate(message.parts):
        _check_part(part, message.role, f"{field}.parts[{index}]")


def _check_part(part: chat_pb2.Part, role: visual_pb2.Role.ValueType, field: str) -> None:
    kind = part.WhichOneof("part")
    if kind is None:
        raise BadMessages("a part is empty", field=field)
    if kind == "text":
        return
    if role != visual_pb2.ROLE_USER:
        raise BadMessages("only user messages hold images and videos", field=f"{field}.{kind}")
    if kind == "image":
        _check_visual(part.image.visual, f"{field}.image.visual")
    elif kind == "combined":
        _check_combined(part.combined, f"{field}.combined")
    else:
        _check_visual(part.video.visual, f"{field}.video.visual")
        _check_frames(part.video.frames, f"{field}.video.frames")


def _check_combined(combined: chat_pb2.CombinedImage, field: str) -> None:
    if not combined.images:
        raise BadMessages("a combined image needs an image", field=f"{field}.images")
    _check_visual(combined.visual, f"{field}.visual")
    for index, image in enumerate(combined.images):
        where = f"{field}.images[{index}].visual"
        _check_visual(image.visual, where)
        if image.visual.layout or image.visual.WhichOneof("increment"):
            raise BadOption("layout and increment are those of the combined image", field=where)


def _check_visual(options: visual_pb2.VisualOptions, field: str) -> None:
    if options.HasField("max_tile_count") and options.max_tile_count < 1:
        raise BadOption(
            f"max_tile_count must be at least 1, got {options.max_tile_count}", field=f"{field}.max_tile_count"
        )
    if options.layout not in visual_pb2.Layout.values():
        raise BadOption(f"there is no layout {options.layout}", field=f"{field}.layout")
    if options.HasField("position_increment") and options.position_increment not in INCREMENTS:
        raise BadOption(
            f"position_increment must be 1, 1/2, 1/4, ... or 1/256, got {options.position_increment:g}",
            field=f"{field}.position_increment",
        )


def _check_frames(options: visual_pb2.VideoOptions, field: str) -> None:
    if options.HasField("frame_count") and options.frame_count < 1:
        raise BadOption(f"frame_count must be at least 1, got {options.frame_count}", field=f"{field}.frame_count")
    start = options.start_seconds
    if not (math.isfinite(start) and start >= 0):
        raise BadOption(f"start_seconds must be 0 or more, got {start:g}", field=f"{field}.start_seconds")
    if options.HasField("end_seconds") and not (math.isfinite(options.end_seconds) and options.end_seconds > start):
        raise BadOption(
            f"end_seconds must be later than start_seconds, got {options.end_seconds:g}", field=f"{field}.end_seconds"
        )
