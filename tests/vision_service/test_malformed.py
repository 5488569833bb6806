"""Files of every malformed kind through a running service: refused in our own words, and it goes on serving."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2

from bench.soak.replicas import Replicas
from internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from tests.support import malformed
from tests.support.pictures import clip_of, file_of
from tests.support.redis import RedisProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

OUR_WORDS = re.compile(
    r"(the file is( not)? [\w ,.-]+: (send it as (an image|a video)|convert it to (JPEG or PNG|MP4)|send [\w, ]+)"
    r"|the file is not (an image|a video) in one of the formats [\w ,.-]+"
    r"|the (\w+ )?image is cut off or damaged: send the file again, whole"
    r"|\d+% of the \w+ image are missing or damaged: send the file again, whole"
    r"|the image is damaged: its decoder gave up|the image needs more memory than a decoder may have"
    r"|an image of (\d+ bytes; at most \d+ are|\d+x\d+ pixels; at most \d+ pixels and \d+ a side are) accepted"
    r"|an image of more pixels than are accepted|an image without pixels|neither a file nor an id"
    r"|the (video|\w+ animation) is cut off or damaged|the file has (only sound|no video that can be read)"
    r"|the video has no frames|the video is damaged: its decoder gave up"
    r"|the video needs more memory than a decoder may have|the video does not say how many frames a second has"
    r"|a video of \d+ bytes; at most \d+ are accepted|frames of \d+x\d+ pixels; at most \d+ are accepted"
    r"|\d+ frames of \d+x\d+ pixels; at most \d+ pixels are accepted in all: ask for fewer frames"
    r"|the range starts at [\d.]+ s, the video ends at [\d.]+ s)"
)
REASONS = {"IMAGE_UNREADABLE", "IMAGE_TOO_LARGE", "VIDEO_UNREADABLE", "VIDEO_TOO_LARGE", "BAD_OPTION"}
FLAGS = (
    "--max-image-pixels", str(malformed.MAX_PIXELS), "--max-image-side", str(malformed.MAX_SIDE),
    "--max-image-bytes", str(malformed.MAX_BYTES), "--max-video-bytes", str(malformed.MAX_BYTES),
    "--device", "cpu,cpu",
    "--decode-seconds", "60", "--decode-memory-bytes", str(1 << 29), "--max-queued-tiles", "100000",
)  # fmt: skip


class Service:
    """One vision process."""

    def __init__(self, replicas: Replicas) -> None:
        self._stub = vision_pb2_grpc.VisionServiceStub(replicas.channel(replicas.address(0)))

    async def picture(self, data: bytes) -> str | None:
        """The refusal's message, or None when it was encoded."""
        return await self._refusal(self._stub.Encode(vision_pb2.EncodeRequest(tenant="t", data=data), timeout=90))

    async def clip(self, data: bytes) -> str | None:
        return await self._refusal(
            self._stub.EncodeVideo(vision_pb2.EncodeVideoRequest(tenant="t", data=data), timeout=90)
        )

    async def _refusal(self, call: grpc.aio.Call) -> str | None:
        code = await call.code()
        if code == grpc.StatusCode.OK:
            return None
        details = await call.details()
        assert code == grpc.StatusCode.INVALID_ARGUMENT, details
        assert OUR_WORDS.fullmatch(details), details
        assert _reason(dict(await call.trailing_metadata())["grpc-status-details-bin"]) in REASONS
        return details


def _reason(details: str | bytes) -> str:
    """Of the one ErrorInfo in a call's google.rpc.Status."""
    assert isinstance(details, bytes)
    info = error_details_pb2.ErrorInfo()
    assert sum(packed.Unpack(info) for packed in status_pb2.Status.FromString(details).details) == 1
    return info.reason


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    tiny_checkpoint: Path, shared_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    replicas = Replicas(1, tiny_checkpoint, shared_redis.url, tmp_path_factory.mktemp("logs"), flags=FLAGS)
    await replicas.start(0)
    yield Service(replicas)
    await replicas.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return clip_of(tmp_path_factory.mktemp("clip") / "clip.mp4", 30)


async def served(service: Service, clip: bytes) -> None:
    """It still is, for files that it has not seen."""
    assert await service.picture(file_of(100, 50)) is None
    assert await service.clip(clip) is None


async def test_pictures(service: Service, clip: bytes) -> None:
    wrongly_served = [name for name, data in malformed.refused_pictures(clip) if await service.picture(data) is None]
    assert not wrongly_served
    await served(service, clip)


async def test_clips(service: Service, clip: bytes) -> None:
    wrongly_served = [name for name, data in malformed.refused_clips(clip) if await service.clip(data) is None]
    assert not wrongly_served
    await served(service, clip)


async def test_flipped_bits(service: Service, clip: bytes) -> None:
    """Served, or refused as all the others are."""
    outcomes = [await service.clip(malformed.flipped(clip, seed)) for seed in range(40)]
    for kind in malformed.FORMATS:
        data = file_of(120, 90, kind=kind)
        outcomes += [await service.picture(malformed.flipped(data, seed)) for seed in range(15)]
    assert None in outcomes
    assert any(outcomes)
    await served(service, clip)


async def test_long_ones_are_served(service: Service) -> None:
    """50,000 frames are many, and no reason to refuse: of a clip eight are decoded, of an animation one."""
    assert await service.clip(malformed.long_clip(50_000)) is None
    assert await service.picture(malformed.long_animation(50_000)) is None
    assert await service.picture(file_of(1, 5000)) is None
    assert await service.picture(file_of(5000, 1)) is None
