"""Frames are those the reference samples."""

from typing import Any

import numpy as np
import pytest

from internvl.errors import BadOption, VideoTooLarge, VideoUnreadable
from tests.support import golden
from tests.support.malformed import clip_of_pictures
from tests.support.pictures import clip_of, encoded_clip, file_of, frame_number, synthetic
from vision_service.video import FrameOptions, VideoLimits, frame_indices, is_container, sample_frames

LIMITS = VideoLimits(max_bytes=10_000_000, max_pixels=1_000_000)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """30 frames at 10 a second."""
    return clip_of(tmp_path_factory.mktemp("clip") / "clip.mp4", 30)


@pytest.mark.parametrize("case", golden.load("video_index")["cases"], ids=str)
def test_indices_equal_the_reference(case: Any) -> None:
    start, end = case["bound"] or (None, None)
    options = FrameOptions(case["num_segments"], start, end)
    indices = frame_indices(options, frames_per_second=case["fps"], last_index=case["max_frame"])
    assert indices == case["indices"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (FrameOptions(3), [4, 14, 23]),
        (FrameOptions(2, 1.0, 2.0), [12, 17]),
        (FrameOptions(1), [14]),
    ],
)
def test_frames_are_those_at_the_indices(clip: bytes, options: FrameOptions, wanted: list[int]) -> None:
    frames = list(sample_frames(clip, options, LIMITS))
    assert [frame_number(frame) for frame in frames] == wanted


def test_a_range_outside_the_clip(clip: bytes) -> None:
    with pytest.raises(BadOption, match="outside the clip, which has 30 frames"):
        list(sample_frames(clip, FrameOptions(4, 50.0, 60.0), LIMITS))


@pytest.mark.parametrize("length", [0, 1, 100, 1000])
def test_clips_cut_off_early(clip: bytes, length: int) -> None:
    with pytest.raises(VideoUnreadable):
        list(sample_frames(clip[:length], FrameOptions(4), LIMITS))


def test_limits(clip: bytes) -> None:
    with pytest.raises(VideoTooLarge, match="bytes"):
        list(sample_frames(clip, FrameOptions(4), VideoLimits(100, 1_000_000)))
    with pytest.raises(VideoTooLarge, match="64x48 pixels"):
        list(sample_frames(clip, FrameOptions(4), VideoLimits(10_000_000, 1000)))


@pytest.mark.parametrize("width", [8, 16, 48, 50, 64, 66, 333])
def test_narrow_frames(width: int) -> None:
    wanted = synthetic(width, 40, 0)
    (frame,) = sample_frames(clip_of_pictures([file_of(width, 40)], 2, size=(width, 40)), FrameOptions(1), LIMITS)
    assert np.array_equal(np.asarray(frame), wanted)


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "webm", "avi", "flv", "mpeg"])
def test_containers_are_known_by_their_first_bytes(container: str) -> None:
    codec = {"webm": "libvpx", "flv": "flv", "mpeg": "mpeg1video"}.get(container, "mpeg4")
    data = encoded_clip(container, codec)
    assert is_container(data)
    assert len(list(sample_frames(data, FrameOptions(3), LIMITS))) == 3
