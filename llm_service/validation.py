"""Requests from protobuf to our own types, every field checked. Raises BadOption and BadMessages with field paths."""

import secrets
from collections.abc import Sequence

from internvl.common.v1 import sampling_pb2, visual_pb2
from internvl.errors import BadMessages, BadOption
from internvl.llm.v1 import llm_pb2
from llm_service.conversation import Auto, Increment, Message, Role, Visual
from llm_service.engine.interface import SamplingParameters
from llm_service.generation import GenerationRequest
from llm_service.positions import increment_ticks
from shared.sampling_options import check_sampling

_ROLES = {
    visual_pb2.ROLE_SYSTEM: Role.SYSTEM,
    visual_pb2.ROLE_USER: Role.USER,
    visual_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
}


def generation_request(request: llm_pb2.GenerateRequest, *, default_increment: int) -> GenerationRequest:
    """The request in our own types."""
    default = _increment(request.visual, default_increment, "visual.position_increment")
    sampling = request.sampling
    check_sampling(sampling)
    return GenerationRequest(
        tenant=request.tenant,
        messages=_messages(request.messages, default),
        sampling=_sampling(sampling),
        max_tokens=sampling.max_tokens if sampling.HasField("max_tokens") else None,
        stop=list(sampling.stop),
        resume_ids=list(request.resume_token_ids),
    )


def _messages(messages: Sequence[llm_pb2.Message], default: Increment) -> list[Message]:
    if not messages:
        raise BadMessages("there is no message to answer", field="messages")
    if messages[-1].role != visual_pb2.ROLE_USER:
        raise BadMessages("the last message must be the user's", field=f"messages[{len(messages) - 1}].role")
    return [_message(message, index, default) for index, message in enumerate(messages)]


def _message(message: llm_pb2.Message, index: int, default: Increment) -> Message:
    field = f"messages[{index}]"
    role = _ROLES.get(message.role)
    if role is None:
        raise BadMessages("a message needs a role", field=f"{field}.role")
    parts = tuple(_part(part, f"{field}.parts[{place}]", default) for place, part in enumerate(message.parts))
    if role is not Role.USER and any(isinstance(part, Visual) for part in parts):
        raise BadMessages("only user messages hold pictures and clips", field=f"{field}.parts")
    return Message(role, parts)


def _part(part: llm_pb2.Part, field: str, default: Increment) -> str | Visual:
    match part.WhichOneof("part"):
        case "text":
            return part.text
        case "image":
            return _visual(part.image, f"{field}.image", default, is_clip=False)
        case "video":
            return _visual(part.video, f"{field}.video", default, is_clip=True)
        case _:
            raise BadMessages("a part is empty", field=field)


def _visual(part: llm_pb2.VisualPart, field: str, default: Increment, *, is_clip: bool) -> Visual:
    embedding = part.embedding
    if len(embedding.key) != 64 or embedding.tile_count < 1 or embedding.tokens_per_tile < 1:
        raise BadOption("an embedding needs a key of 64 digits, tiles and tokens", field=f"{field}.embedding")
    counts = tuple(part.frame_tile_counts) or (embedding.tile_count,)
    if min(counts) < 1 or sum(counts) != embedding.tile_count or (len(counts) > 1 and not is_clip):
        raise BadOption("the frames' tiles do not add up to the embedding's", field=f"{field}.frame_tile_counts")
    return Visual(
        key=embedding.key,
        tokens_per_tile=embedding.tokens_per_tile,
        frame_tile_counts=counts,
        is_clip=is_clip,
        increment=_increment(part.visual, default, f"{field}.visual.position_increment"),
        holder=embedding.holder,
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
    """With the defaults of fields that are unset; those that are set have been checked."""

    def value(name: str, default: float) -> float:
        return float(getattr(options, name)) if options.HasField(name) else default  # type: ignore[arg-type]

    return SamplingParameters(
        seed=options.seed if options.HasField("seed") else secrets.randbelow(1 << 64),
        temperature=value("temperature", 0.0),
        top_p=value("top_p", 1.0),
        top_k=int(value("top_k", 0)),
        min_p=value("min_p", 0.0),
        repetition_penalty=value("repetition_penalty", 1.0),
        presence_penalty=value("presence_penalty", 0.0),
        frequency_penalty=value("frequency_penalty", 0.0),
        top_logprob_count=options.top_logprob_count if options.HasField("top_logprob_count") else None,
    )
