"""Public messages to the services' messages and back. Pure: no calls, no state."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.media.files import Frames, MediaKind, Medium
from gateway.placeholders import placed
from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import visual_pb2
from internvl.errors import InternvlError, InvalidRequest
from internvl.llm.v1 import llm_pb2
from internvl.vision.v1 import vision_pb2

_VISION_FIELDS = {"max_tile_count": "visual.max_tile_count", "media_id": "id"}


@dataclass(frozen=True)
class Encoded:
    """A medium's embedding, as the vision service reports it."""

    embedding: visual_pb2.EmbeddingReference
    media_id: str
    cached: bool
    source_count: int
    """Pages of the image file, or frames of the video."""
    frame_tile_counts: tuple[int, ...] = ()
    width: int = 0
    """Pixels of an image as it was shown to the model; 0: not known."""
    height: int = 0

    @property
    def public(self) -> chat_pb2.Media:
        """As clients see it."""
        tile_count = self.embedding.tile_count
        return chat_pb2.Media(
            id=self.media_id,
            tile_count=tile_count,
            token_count=tile_count * self.embedding.tokens_per_tile,
            embedding_cached=self.cached,
            source_count=self.source_count,
            read_count=len(self.frame_tile_counts) or 1,
        )


def encode_request(medium: Medium, tenant: str) -> vision_pb2.EncodeRequest:
    """Asks for an image's embedding: from its bytes where the request has them, else by id."""
    assert medium.kind is MediaKind.IMAGE
    request = vision_pb2.EncodeRequest(tenant=tenant, max_tile_count=medium.max_tile_count)
    if medium.data is None:
        request.media_id = medium.id
    else:
        request.data = medium.data
    return request


def encode_video_request(medium: Medium, tenant: str) -> vision_pb2.EncodeVideoRequest:
    """Asks for a video's embedding."""
    frames = medium.frames or Frames()
    request = vision_pb2.EncodeVideoRequest(
        tenant=tenant,
        max_tile_count=medium.max_tile_count,
        frames=visual_pb2.VideoOptions(
            frame_count=frames.count, start_seconds=frames.start_seconds, end_seconds=frames.end_seconds
        ),
    )
    if medium.data is None:
        request.media_id = medium.id
    else:
        request.data = medium.data
    return request


def encoded(response: vision_pb2.EncodeResponse | vision_pb2.EncodeVideoResponse) -> Encoded:
    """Answer of the vision service."""
    shared = (response.embedding, response.media_id, response.cached, response.source_count)
    if isinstance(response, vision_pb2.EncodeVideoResponse):
        return Encoded(*shared, frame_tile_counts=tuple(response.frame_tile_counts))
    return Encoded(*shared, width=response.width, height=response.height)


def at_medium(error: InternvlError, medium: Medium) -> InternvlError:
    """The vision service's error with the field of the public request it is about."""
    if not isinstance(error, InvalidRequest):
        return error
    inner = _VISION_FIELDS.get(error.field or "", error.field)
    return error.at(f"{medium.field_path}.{inner}" if inner else medium.field_path)


def generate_request(
    request: chat_pb2.ChatRequest, tenant: str, media: Sequence[Medium], embeddings: Mapping[Medium, Encoded]
) -> llm_pb2.GenerateRequest:
    """The conversation with embeddings in place of media. `media` is in the order of the request."""
    rest = iter(media)
    messages = [
        llm_pb2.Message(
            role=message.role,
            parts=placed([_part(part, rest, embeddings) for part in message.parts]),
            tool_calls=message.tool_calls,
        )
        for message in request.messages
    ]
    assert next(rest, None) is None, "more media than parts that show one"
    return llm_pb2.GenerateRequest(
        tenant=tenant,
        messages=messages,
        sampling=request.sampling,
        visual=request.visual,
        tools=request.tools,
    )


def _part(part: chat_pb2.Part, media: Iterator[Medium], embeddings: Mapping[Medium, Encoded]) -> llm_pb2.Part:
    if part.HasField("text"):
        return llm_pb2.Part(text=part.text)
    if part.HasField("combined"):
        several = [embeddings[next(media)].embedding for _ in part.combined.images]
        return llm_pb2.Part(combined=llm_pb2.CombinedPart(embeddings=several, visual=part.combined.visual))
    found = embeddings[next(media)]
    if part.HasField("image"):
        return llm_pb2.Part(image=llm_pb2.VisualPart(embedding=found.embedding, visual=part.image.visual))
    counts = found.frame_tile_counts
    visual = part.video.visual
    return llm_pb2.Part(video=llm_pb2.VisualPart(embedding=found.embedding, frame_tile_counts=counts, visual=visual))
