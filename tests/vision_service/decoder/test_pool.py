"""Decoder processes: equal to decoding in place, and whatever happens to one costs one request."""

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from internvl.errors import (
    BadOption,
    DecoderStopped,
    DecodeTimeout,
    ImageTooLarge,
    ImageUnreadable,
    InvalidRequest,
    VideoTooLarge,
    VideoUnreadable,
)
from tests.support.decoders import ThreadDecoders
from tests.support.malformed import clip_of_pictures
from tests.support.pictures import clip_of, file_of
from tests.support.video_matrix import cases
from tests.support.waiting import until
from vision_service.decoder.job import ImageJob, Job, VideoJob, job_from_line
from vision_service.decoder.pool import DecoderPool
from vision_service.decoder.process import DecoderProcess, ProcessLimits
from vision_service.image.decoding import ImageLimits
from vision_service.image.pictures import Pictures
from vision_service.tiles import TilingOptions
from vision_service.video.sampling import FrameOptions, VideoLimits

pytestmark = pytest.mark.asyncio(loop_scope="module")

TILING = TilingOptions(4, tile_size=56)
IMAGE = ImageJob(TILING, ImageLimits(1 << 26, 60_000_000, 1 << 16), Pictures.AS_SEEN)
VIDEO = VideoJob(TILING, FrameOptions(3), VideoLimits(1 << 26, 1 << 24, 1 << 28))
PICTURE = file_of(130, 60)
MEMORY = 1 << 30


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool() -> AsyncIterator[DecoderPool]:
    pool = await DecoderPool.started(1, ProcessLimits(60.0, MEMORY))
    yield pool
    await pool.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return clip_of(tmp_path_factory.mktemp("clip") / "clip.mp4", 30)


def blank(width: int, height: int) -> bytes:
    """A small file of many pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


async def idle_process(pool: DecoderPool) -> DecoderProcess:
    """The only one, once it waits for work."""
    await until(lambda: pool._idle.qsize(), "there is an idle process")
    (process,) = pool._processes
    return process


async def pid_of(pool: DecoderPool) -> int:
    return (await idle_process(pool))._process.pid


async def equal_to_decoding_in_place(pool: DecoderPool, job: Job, data: bytes) -> None:
    there, here = await pool.decode(job, data), await ThreadDecoders().decode(job, data)
    assert (there.counts, there.source_count, there.size) == (here.counts, here.source_count, here.size)
    assert np.array_equal(there.tiles, here.tiles)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG", "MPO", "AVIF", "HEIF"])
async def test_pictures_of_every_format(pool: DecoderPool, kind: str) -> None:
    await equal_to_decoding_in_place(pool, IMAGE, file_of(130, 60, kind=kind))


async def test_images_that_need_more_of_a_library(pool: DecoderPool) -> None:
    """Than a process that can open nothing loads by itself."""
    photo = Image.open(io.BytesIO(file_of(130, 60)))
    exif = photo.getexif()
    exif[0x0112] = 6
    for image, kind, options in (
        (photo, "JPEG", {"exif": exif}),
        (photo.convert("LAB"), "TIFF", {}),
        (photo.convert("CMYK"), "JPEG", {}),
        (photo.convert("LA"), "PNG", {"icc_profile": bytes(100)}),
        (photo.convert("P"), "GIF", {"save_all": True, "append_images": [photo.convert("L")]}),
        (Image.fromarray(np.ones((9, 9), np.uint16)), "TIFF", {"compression": "tiff_lzw"}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        await equal_to_decoding_in_place(pool, IMAGE, buffer.getvalue())
    for kind in ("JPEG", "PNG"):
        await equal_to_decoding_in_place(pool, IMAGE, file_of(130, 60, kind=kind)[:-10])


async def test_large_files_and_many_tiles(pool: DecoderPool) -> None:
    job = ImageJob(TilingOptions(12), IMAGE.limits, Pictures.AS_SEEN)
    await equal_to_decoding_in_place(pool, job, file_of(1600, 1200, kind="BMP"))
    await equal_to_decoding_in_place(pool, IMAGE, PICTURE)  # a small one after it


@pytest.mark.parametrize(
    "name", ["h264 mp4 B2", "one group, cut in mp4", "h264 mpegts B2", "mpeg2 vob B2", "av1 mp4", "gif", "webp"]
)
async def test_videos(pool: DecoderPool, name: str) -> None:
    """By decord, by PyAV and by Pillow, none of which can open anything there."""
    await equal_to_decoding_in_place(pool, VIDEO, cases()[name].build())


async def test_a_frame_that_is_repeated_costs_one_frame(pool: DecoderPool) -> None:
    """One frame of 5000x5000 pixels in 4 kB, asked for 128 times."""
    video = clip_of_pictures([blank(5000, 5000)], 1, size=(5000, 5000))
    limits = VideoLimits(1 << 26, 89_000_000, 1_100_000_000)
    decoded = await pool.decode(VideoJob(TilingOptions(1, tile_size=56), FrameOptions(128), limits), video)
    assert decoded.counts == (1,) * 128
    assert decoded.source_count == 1
    many = clip_of_pictures([blank(5000, 5000)], 128, size=(5000, 5000))
    with pytest.raises(VideoTooLarge, match=r"12\d frames of 5000x5000 pixels"):
        await pool.decode(VideoJob(TILING, FrameOptions(128), limits), many)


async def test_refusals_arrive_with_field_and_reason(pool: DecoderPool, clip: bytes) -> None:
    before = await pid_of(pool)
    with pytest.raises(ImageUnreadable, match="not an image in one of the formats"):
        await pool.decode(IMAGE, b"nothing")
    with pytest.raises(ImageTooLarge, match="8000x8000"):
        await pool.decode(IMAGE, blank(8000, 8000))
    with pytest.raises(VideoUnreadable):
        await pool.decode(VIDEO, clip[:1000])
    with pytest.raises(BadOption) as caught:
        await pool.decode(VideoJob(TILING, FrameOptions(4, 50.0, 60.0), VIDEO.limits), clip)
    assert caught.value.field == "frames.start_seconds"
    assert await pid_of(pool) == before


@pytest.mark.parametrize(
    "job", [IMAGE, VIDEO, ImageJob(TilingOptions(12, 2, False), IMAGE.limits, Pictures.REFERENCE)], ids=repr
)
async def test_jobs_travel(job: Job) -> None:
    assert job_from_line(job.to_line(7)) == (job, 7)


async def test_a_decoder_that_crashes_costs_one_request(pool: DecoderPool) -> None:
    before = await pid_of(pool)
    os.kill(before, signal.SIGSTOP)
    crashing, waiting = (asyncio.create_task(pool.decode(IMAGE, PICTURE)) for _ in range(2))
    await asyncio.sleep(0)
    os.kill(before, signal.SIGSEGV)
    os.kill(before, signal.SIGCONT)
    with pytest.raises(ImageUnreadable, match="its decoder gave up"):
        await crashing
    assert (await waiting).counts == (3,)
    assert await pid_of(pool) != before


async def test_a_decoder_that_the_system_stops_is_not_the_files_fault(pool: DecoderPool) -> None:
    pid = await pid_of(pool)
    os.kill(pid, signal.SIGSTOP)
    stopped = asyncio.create_task(pool.decode(IMAGE, PICTURE))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(DecoderStopped):
        await stopped


async def test_a_decoder_that_died_idle_is_replaced_first(pool: DecoderPool) -> None:
    process = await idle_process(pool)
    os.kill(await pid_of(pool), signal.SIGKILL)
    await until(lambda: not process.is_alive, "it is dead")
    assert (await pool.decode(IMAGE, PICTURE)).counts == (3,)


async def test_cancelling_kills_the_decoder(pool: DecoderPool) -> None:
    process = await idle_process(pool)
    os.kill(await pid_of(pool), signal.SIGSTOP)
    task = asyncio.create_task(pool.decode(IMAGE, PICTURE))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not process.is_alive, "it is dead")
    assert (await pool.decode(IMAGE, PICTURE)).counts == (3,)


async def test_limits_of_time_and_memory() -> None:
    pool = await DecoderPool.started(1, ProcessLimits(0.5, 64 << 20))
    try:
        with pytest.raises(ImageTooLarge, match="more memory"):
            await pool.decode(IMAGE, blank(7000, 7000))
        assert (await pool.decode(IMAGE, PICTURE)).counts == (3,)
        os.kill(await pid_of(pool), signal.SIGSTOP)
        with pytest.raises(DecodeTimeout, match=r"0\.5 s"):
            await pool.decode(IMAGE, PICTURE)
    finally:
        await pool.close()
    assert not any(process.is_alive for process in pool._processes)


async def test_nonsense_from_a_process_is_not_believed(pool: DecoderPool) -> None:
    """The worker answers for one picture; the handle expects none of that size."""
    larger = ImageJob(TilingOptions(4, tile_size=112), IMAGE.limits, Pictures.AS_SEEN)
    for claimed in (
        b'{"counts": [900], "source_count": 1}', b'{"counts": [1, 1], "source_count": 1}', b'{"counts": []}',
        b'{"counts": [1]}', b'{"counts": [1], "source_count": 0}', b'{"counts": [1], "source_count": true}',
        b'{"reason": "X"}', b"\xff", b"[]",
    ):  # fmt: skip
        process = await idle_process(pool)
        reader = process._replies
        reader.feed_data(claimed + b"\n")
        with pytest.raises(InvalidRequest, match="gave up"):
            await pool.decode(larger, PICTURE)
        assert (await pool.decode(IMAGE, PICTURE)).counts == (3,)
