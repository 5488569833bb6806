"""On every file the frames are those that a player shows, in order; what cannot be read is refused by its name."""

import io
import random
from collections.abc import Iterator

import av
import numpy as np
import pytest
from PIL import Image

from internvl.errors import BadOption, VideoTooLarge, VideoUnreadable
from tests.support import malformed
from tests.support.malformed import clip_of_pictures
from tests.support.pictures import file_of, synthetic
from tests.support.video_matrix import Case, cases, damaged_cases
from tests.support.videos import number_of, picture, sound_file, video_file
from vision_service.video.decord_reader import DecordReader
from vision_service.video.opening import open_reader, sample_frames
from vision_service.video.pyav_reader import PyAvReader
from vision_service.video.sampling import FrameOptions, VideoLimits, wanted_indices

LIMITS = VideoLimits(max_bytes=10_000_000, max_pixels=1_000_000, max_sampled_pixels=10_000_000)
CASES = cases()
DAMAGED = damaged_cases()


def numbers_of(images: "list[Image.Image]") -> list[int | None]:
    return [number_of(np.asarray(image)) for image in images]


def in_sequence(data: bytes) -> list[int | None]:
    """Numbers of all frames, read one after the other without any seeking."""
    if Image.MIME.get(_format(data), "").startswith("image"):
        with Image.open(io.BytesIO(data)) as image:
            frames = []
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                frames.append(image.convert("RGB"))
        return numbers_of(frames)
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        frames_found: list[av.VideoFrame] = []
        for packet in container.demux(stream):
            try:
                frames_found += packet.decode()
            except av.error.InvalidDataError:
                continue
    return [number_of(frame.to_ndarray(format="rgb24")) for frame in frames_found]


def _format(data: bytes) -> str:
    try:
        return Image.open(io.BytesIO(data)).format or ""
    except OSError:
        return ""


def test_there_are_many() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_frames_are_those_that_are_shown(case: Case) -> None:
    data = case.build()
    truth = in_sequence(data)
    if case.shows is not None:
        assert truth == list(case.shows)
    assert None not in truth
    total = len(truth)
    reader = open_reader(data, LIMITS)
    assert reader.frame_count == total
    dice = random.Random(total)
    jumps = sorted(dice.sample(range(total), min(5, total)))
    for indices in (list(range(total)), [total - 1], [total // 2], jumps):
        assert numbers_of(list(reader.frames(indices))) == [truth[index] for index in indices]
    for options in (FrameOptions(8), FrameOptions(40), FrameOptions(1), FrameOptions(5, 0.0, 0.8)):
        sampled = sample_frames(data, options, LIMITS)
        indices = wanted_indices(options, frames_per_second=reader.frames_per_second(), frame_count=total)
        assert sampled.source_count == total
        assert numbers_of(list(sampled.images)) == [truth[index] for index in indices]


@pytest.mark.parametrize("case", DAMAGED.values(), ids=DAMAGED)
def test_where_a_frame_is_damaged_the_one_before_is_shown(case: Case) -> None:
    data = case.build()
    truth = in_sequence(data)
    shown = numbers_of(list(sample_frames(data, FrameOptions(30), LIMITS).images))
    assert set(shown) == set(truth)
    assert shown == sorted(shown, key=truth.index)


MATRICES = {
    "a quarter turn": ((0, 1, -1, 0), lambda shown: np.rot90(shown, 1)),
    "a half turn": ((-1, 0, 0, -1), lambda shown: np.rot90(shown, 2)),
    "three quarter turns": ((0, -1, 1, 0), lambda shown: np.rot90(shown, 3)),
    "mirrored": ((-1, 0, 0, 1), lambda shown: shown[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda shown: shown[::-1]),
    "turned and mirrored": ((0, 1, 1, 0), lambda shown: shown.swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_frames_are_turned_as_the_file_says(name: str) -> None:
    (a, b, c, d), back = MATRICES[name]
    matrix = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    data = video_file("mp4", "libx264", options={"crf": "10"}, matrix=matrix)
    shown = [np.asarray(image) for image in sample_frames(data, FrameOptions(3), LIMITS).images]
    assert [number_of(back(frame)) for frame in shown] == [4, 14, 23]


def test_decord_reads_what_it_reads_rightly_and_pyav_gives_the_same_pixels() -> None:
    for name in ("h264 mp4 B2", "h264 matroska B2", "vp9 webm", "mpeg4 mp4 B0"):
        data = CASES[name].build()
        reader = open_reader(data, LIMITS)
        assert isinstance(reader, DecordReader), name
        other = PyAvReader(data, "matroska,webm" if "mat" in name or "web" in name else "mov", LIMITS)
        for one, two in zip(reader.frames([0, 7, 29]), other.frames([0, 7, 29]), strict=True):
            assert np.array_equal(np.asarray(one), np.asarray(two))


@pytest.mark.parametrize(
    "name", ["one group, cut in mp4", "hevc mp4, open groups", "h264 mp4, gradual refresh", "mpeg4 mp4 B2"]
)
def test_where_decord_would_be_wrong_pyav_reads(name: str) -> None:
    data = CASES[name].build()
    assert isinstance(open_reader(data, LIMITS), PyAvReader)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (sound_file("mp4"), "only sound"),
        (sound_file("matroska"), "only sound"),
        (file_of(64, 48, kind="GIF"), "GIF of one frame, an image: send it as an image"),
        (file_of(64, 48, kind="WEBP"), "WebP of one frame, an image: send it as an image"),
        (file_of(64, 48, kind="JPEG"), "the file is JPEG, an image: send it as an image"),
        (
            b"0&\xb2u\x8ef\xcf\x11" + bytes(100),
            "Windows Media, not a video in one of the formats .*: convert it to MP4",
        ),
        (b"#EXTM3U\n/etc/hostname\n", "HLS playlist"),
        (b"", "not a video in one of the formats MP4"),
        (b"hello" * 100, "not a video in one of the formats MP4"),
        (CASES["h264 avi B2"].build()[:2000], "cut off or damaged"),
        (CASES["h264 mp4 B2"].build()[:2000], "cut off or damaged"),
        (clip_of_pictures([], 1), "no video that can be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals_say_what_the_file_is(data: bytes, message: str) -> None:
    with pytest.raises(VideoUnreadable, match=message) as caught:
        list(sample_frames(data, FrameOptions(4), LIMITS).images)
    assert caught.value.field == "data"


def test_an_alpha_channel_lies_over_white() -> None:
    frames = [Image.new("RGBA", (16, 16), (0, 0, 0, alpha)) for alpha in (0, 255)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    shown = [image.getpixel((8, 8)) for image in open_reader(buffer.getvalue(), LIMITS).frames([0, 1])]
    assert shown == [(255, 255, 255), (0, 0, 0)]


def test_a_start_past_the_end() -> None:
    data = CASES["h264 mp4 B2"].build()
    for start in (3.0, 3.5, 50.0):
        with pytest.raises(BadOption, match=rf"starts at {start:g} s, the video ends at 3 s") as caught:
            sample_frames(data, FrameOptions(4, start, 60.0), LIMITS)
        assert caught.value.field == "frames.start_seconds"
    assert numbers_of(list(sample_frames(data, FrameOptions(3, 2.97, 60.0), LIMITS).images)) == [29] * 3
    assert numbers_of(list(sample_frames(data, FrameOptions(3, 2.9), LIMITS).images)) == [29] * 3


def test_limits_are_judged_before_frames_are_decoded() -> None:
    data = CASES["h264 mp4 B2"].build()
    with pytest.raises(VideoTooLarge, match="bytes"):
        sample_frames(data, FrameOptions(4), VideoLimits(100, 1_000_000, 1_000_000))
    with pytest.raises(VideoTooLarge, match="64x48 pixels"):
        sample_frames(data, FrameOptions(4), VideoLimits(10_000_000, 1000, 1_000_000))
    with pytest.raises(VideoTooLarge, match="8 frames of 64x48 pixels; at most 20000") as caught:
        sample_frames(data, FrameOptions(8), VideoLimits(10_000_000, 1_000_000, 20_000))
    assert caught.value.field == "frames.frame_count"
    list(sample_frames(data, FrameOptions(6), VideoLimits(10_000_000, 1_000_000, 20_000)).images)


def test_frames_larger_than_the_header_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyAV reads; decord scales them to the first one's size."""
    monkeypatch.setattr(DecordReader, "agreeing", lambda _data, _other: None)
    data = clip_of_pictures([file_of(64, 48), file_of(1500, 1500)], 4)
    with pytest.raises(VideoTooLarge, match="1500x1500"):
        list(sample_frames(data, FrameOptions(3), LIMITS).images)


def test_a_frame_that_is_repeated_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = clip_of_pictures([file_of(64, 48)], 1)
    asked: list[list[int]] = []
    frames = DecordReader.frames

    def counted(self: DecordReader, indices: list[int]) -> Iterator[Image.Image]:
        asked.append(indices)
        return frames(self, indices)

    monkeypatch.setattr(DecordReader, "frames", counted)
    images = list(sample_frames(data, FrameOptions(128), LIMITS).images)
    assert asked == [[0]]
    assert len(images) == 128
    assert len(set(map(id, images))) == 1


@pytest.mark.parametrize("width", [8, 16, 48, 50, 64, 66, 333])
def test_narrow_frames(width: int) -> None:
    wanted = synthetic(width, 40, 0)
    data = clip_of_pictures([file_of(width, 40)], 2, size=(width, 40))
    (frame,) = sample_frames(data, FrameOptions(1), LIMITS).images
    assert np.array_equal(np.asarray(frame), wanted)
    (frame,) = PyAvReader(data, "mov", LIMITS).frames([1])
    assert np.array_equal(np.asarray(frame), wanted)


@pytest.mark.parametrize("length", [0, 1, 100, 1000])
def test_videos_cut_off_early(length: int) -> None:
    with pytest.raises(VideoUnreadable):
        list(sample_frames(CASES["h264 mp4 B2"].build()[:length], FrameOptions(4), LIMITS).images)


def test_flipped_bits_are_refused_or_read() -> None:
    """In whatever words, but ours."""
    outcomes = set()
    for name in ("h264 mpegts B2", "mpeg2 mpeg B2", "gif", "hevc hevc", "vp8 ogg", "mpeg4 avi B0"):  # decord may crash
        for seed in range(12):
            try:
                list(sample_frames(malformed.flipped(CASES[name].build(), seed), FrameOptions(4), LIMITS).images)
                outcomes.add("read")
            except (VideoUnreadable, VideoTooLarge, BadOption) as error:
                outcomes.add(type(error).__name__)
    assert {"read", "VideoUnreadable"} <= outcomes


def test_the_frames_of_the_matrix_tell_themselves_apart() -> None:
    assert [number_of(picture(number)) for number in range(256)] == list(range(256))
    assert number_of(picture(5)[::-1]) is None
    assert number_of(picture(5)[:, ::-1]) is None
