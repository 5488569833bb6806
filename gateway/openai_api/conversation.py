"""A body of the OpenAI API as a request of ours, and our names of fields as the client's. Pure."""

import re
from collections.abc import Iterator, Mapping

from gateway.openai_api.body import ChatBody
from gateway.openai_api.data_url import WHITE_SPACE, data_of, why_no_url
from gateway.openai_api.request.forms import output_field, output_format
from gateway.openai_api.request.message import (
    ImagePart,
    ImageUrl,
    Increment,
    Layout,
    Message,
    Part,
    RefusalPart,
    TextPart,
    VideoPart,
)
from gateway.openai_api.request.tools import tool_call, tool_field, tool_options
from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import sampling_pb2, visual_pb2
from internvl.errors import ImageUnreadable, InvalidRequest, VideoUnreadable

_ROLES = {
    "system": visual_pb2.ROLE_SYSTEM,
    "developer": visual_pb2.ROLE_SYSTEM,
    "user": visual_pb2.ROLE_USER,
    "assistant": visual_pb2.ROLE_ASSISTANT,
    "tool": visual_pb2.ROLE_TOOL,
}
_LAYOUTS: dict[Layout | None, visual_pb2.Layout.ValueType] = {
    None: visual_pb2.LAYOUT_UNSPECIFIED,
    "lines": visual_pb2.LAYOUT_LINES,
    "as_given": visual_pb2.LAYOUT_AS_GIVEN,
}
_DEFAULT_TEMPERATURE = 1.0
"""OpenAI's; ours is 0."""
_SAME = (ChatBody.model_fields.keys() & sampling_pb2.SamplingOptions.DESCRIPTOR.fields_by_name.keys()) - {
    "max_tokens",
    "temperature",
    "stop",
    "seed",
    "logit_bias",
}
"""Options that have one name, and one meaning, in both."""
_PARTS = re.compile(r"\.parts\b")
_SOURCE = re.compile(r"\.(image|video)\.(?:data|uri)\b")
_MEDIUM = re.compile(r"\.(image|video)\b")


def chat_requests(body: ChatBody) -> list[chat_pb2.ChatRequest]:
    """One for each choice: they differ in their seeds alone. Raises InvalidRequest."""
    first = chat_pb2.ChatRequest(
        messages=[_message(message, f"messages[{index}]") for index, message in enumerate(body.messages)],
        sampling=_sampling(body),
        visual=_visual(body.max_tile_count, body.position_increment, body.layout),
        tools=tool_options(body),
    )
    requests = [first]
    for index in range(1, body.n or 1):
        other = chat_pb2.ChatRequest()
        other.CopyFrom(first)
        if body.seed is not None:
            other.sampling.seed = (body.seed + index) % 2**64
        requests.append(other)
    return requests


def public_field(field: str, body: ChatBody) -> str:
    """Our path of a field in the client's words: messages[0].parts[1].image -> messages[0].content[1].image_url."""
    section, _, rest = field.partition(".")
    if section == "sampling":
        if rest == "max_tokens" and body.max_completion_tokens is not None:
            return "max_completion_tokens"
        if rest.startswith("output"):
            return output_field(body)
        return {"top_logprob_count": "top_logprobs", "include_stop": "include_stop_str_in_output"}.get(rest, rest)
    if section == "tools":
        return tool_field(rest)
    if section == "visual":
        return rest
    path = _PARTS.sub(".content", field)
    path = _MEDIUM.sub(r".\1_url", _SOURCE.sub(r".\1_url.url", path))
    return path.replace("_url.visual.", "_url.").replace("_url.frames.", "_url.")


def _message(message: Message, path: str) -> chat_pb2.Message:
    return chat_pb2.Message(
        role=_ROLES[message.role],
        parts=list(_parts(message.content, path)),
        tool_calls=[tool_call(call) for call in message.tool_calls or []],
        tool_call_id=message.tool_call_id or "",
    )


def _parts(content: str | list[Part] | None, path: str) -> Iterator[chat_pb2.Part]:
    if isinstance(content, str):
        yield chat_pb2.Part(text=content)
        return
    for index, part in enumerate(content or []):
        where = f"{path}.content[{index}]"
        match part:
            case TextPart():
                yield chat_pb2.Part(text=part.text)
            case RefusalPart():
                yield chat_pb2.Part(text=part.refusal)
            case ImagePart():
                yield chat_pb2.Part(image=_image(part.image_url, f"{where}.image_url.url"))
            case VideoPart():
                yield chat_pb2.Part(video=_video(part, f"{where}.video_url.url"))


def _image(image: ImageUrl, path: str) -> chat_pb2.Image:
    tiles = image.max_tile_count
    if tiles is None and image.detail == "low":
        tiles = 1
    visual = _visual(tiles, image.position_increment, image.layout)
    if (data := _inline(image.url, ImageUnreadable, path)) is not None:
        return chat_pb2.Image(data=data, visual=visual)
    return chat_pb2.Image(uri=image.url.strip(WHITE_SPACE), visual=visual)


def _video(part: VideoPart, path: str) -> chat_pb2.Video:
    clip = part.video_url
    visual = _visual(clip.max_tile_count, clip.position_increment, clip.layout)
    frames = visual_pb2.VideoOptions(
        frame_count=clip.frame_count, start_seconds=clip.start_seconds, end_seconds=clip.end_seconds
    )
    if (data := _inline(clip.url, VideoUnreadable, path)) is not None:
        return chat_pb2.Video(data=data, visual=visual, frames=frames)
    return chat_pb2.Video(uri=clip.url.strip(WHITE_SPACE), visual=visual, frames=frames)


def _inline(url: str, error: type[InvalidRequest], path: str) -> bytes | None:
    """The bytes of a data: URL; None for an address."""
    if (complaint := why_no_url(url)) is not None:
        raise error(complaint, field=path)
    try:
        return data_of(url)
    except ValueError as wrong:
        raise error(str(wrong), field=path) from None


def _visual(max_tile_count: int | None, increment: Increment | None, layout: Layout | None) -> visual_pb2.VisualOptions:
    options = visual_pb2.VisualOptions(max_tile_count=max_tile_count, layout=_LAYOUTS[layout])
    if increment == "auto":
        options.auto_increment.SetInParent()
    elif increment is not None:
        options.position_increment = float(increment)
    return options


def _sampling(body: ChatBody) -> sampling_pb2.SamplingOptions:
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    temperature = _DEFAULT_TEMPERATURE if body.temperature is None else body.temperature
    stop = [text for text in ([body.stop] if isinstance(body.stop, str) else body.stop or []) if text]
    if not body.logprobs and body.top_logprobs:
        raise InvalidRequest("top_logprobs needs logprobs: true", field="top_logprobs")
    same = {name: getattr(body, name) for name in _SAME}
    return sampling_pb2.SamplingOptions(
        **same,
        max_tokens=limit,
        temperature=temperature,
        stop=stop,
        seed=None if body.seed is None else body.seed % 2**64,
        top_logprob_count=(body.top_logprobs or 0) if body.logprobs else None,
        logit_bias=_logit_bias(body.logit_bias or {}),
        include_stop=bool(body.include_stop_str_in_output),
        output=output_format(body),
    )


def _logit_bias(biases: Mapping[str, float]) -> dict[int, float]:
    if not all(name.isascii() and name.isdigit() and len(name) < 10 for name in biases):
        raise InvalidRequest("logit_bias is by token ids", field="logit_bias")
    return {int(name): bias for name, bias in biases.items()}
