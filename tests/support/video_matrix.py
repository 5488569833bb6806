"""Video files of every codec, container and habit, each with what a player shows of it."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from PIL import Image

from tests.support.videos import picture, remuxed, video_file

Build = Callable[[], bytes]
_X264 = {"preset": "veryfast", "crf": "10"}
_X264_OPEN = {**_X264, "x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}
_X264_REFRESH = {**_X264, "x264-params": "intra-refresh=1:keyint=10"}
_GAPS = [*range(10), *range(30, 40), *range(80, 90)]


@dataclass(frozen=True)
class Case:
    """One file."""

    build: Build
    shows: tuple[int, ...] | None = tuple(range(30))
    """Numbers of its frames; None where only reading it in sequence tells."""


def _x265(*, is_open: bool) -> dict[str, str]:
    groups = f"open-gop={int(is_open)}:keyint=10:min-keyint=10:bframes=3:scenecut=0"
    return {"preset": "ultrafast", "x265-params": f"{groups}:log-level=none"}


def _animated_png() -> bytes:
    frames, buffer = [Image.fromarray(picture(number)) for number in range(30)], io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=100)
    return buffer.getvalue()


def _of(
    container: str, codec: str, *, options: Mapping[str, str] = {}, b_frames: int = 0, rate: int = 10, **more: object
) -> Case:
    options = options or (_X264 if codec == "libx264" else {})
    return Case(
        cache(lambda: video_file(container, codec, options=options, b_frames=b_frames, rate=rate, **more))  # type: ignore[arg-type]
    )


def _cut(source: Case, container: str, start: float, shows: range | None) -> Case:
    return Case(cache(lambda: remuxed(source.build(), container, skip=start)), None if shows is None else tuple(shows))


def _start_of(source: Case, share: float) -> Case:
    def build() -> bytes:
        data = source.build()
        return data[: int(len(data) * share)]

    return Case(cache(build), None)


def cases() -> dict[str, Case]:
    """Name and file, none of them built yet."""
    found: dict[str, Case] = {}
    for b_frames in (0, 2):
        for container in ("mp4", "mov", "matroska", "flv", "mpegts", "h264", "avi"):
            found[f"h264 {container} B{b_frames}"] = _of(container, "libx264", b_frames=b_frames)
        for container in ("mp4", "avi", "matroska"):
            found[f"mpeg4 {container} B{b_frames}"] = _of(container, "mpeg4", b_frames=b_frames)
        for container in ("mpeg", "vob", "mpegts", "matroska", "mpeg2video", "mp4"):
            found[f"mpeg2 {container} B{b_frames}"] = _of(container, "mpeg2video", b_frames=b_frames, rate=25)
        found[f"mpeg1 mpeg B{b_frames}"] = _of("mpeg", "mpeg1video", b_frames=b_frames, rate=25)
    for container in ("mp4", "matroska", "mpegts", "hevc"):
        found[f"hevc {container}"] = _of(container, "libx265", options=_x265(is_open=False))
        found[f"hevc {container}, open groups"] = _of(container, "libx265", options=_x265(is_open=True))
    found |= {
        "h264 mp4, open groups": _of("mp4", "libx264", b_frames=2, options=_X264_OPEN),
        "h264 mp4, gradual refresh": _of("mp4", "libx264", options=_X264_REFRESH),
        "h264 ts, gradual refresh": _of("mpegts", "libx264", options=_X264_REFRESH),
        "h264 mp4, 4:4:4": _of("mp4", "libx264", pixel_format="yuv444p"),
        "h264 mp4 in fragments": _of("mp4", "libx264", b_frames=2, muxer={"movflags": "frag_keyframe+empty_moov"}),
        "vp8 webm": _of("webm", "libvpx"),
        "vp8 webm, hidden references": _of("webm", "libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16"}),
        "vp8 ogg": _of("ogg", "libvpx"),
        "vp9 webm": _of("webm", "libvpx-vp9", options={"lag-in-frames": "16", "cpu-used": "5"}),
        "vp9 mp4": _of("mp4", "libvpx-vp9", options={"lag-in-frames": "16", "cpu-used": "5"}),
        "av1 mp4": _of("mp4", "libsvtav1", options={"preset": "10"}, size=(128, 96)),
        "mjpeg mov": _of("mov", "mjpeg", pixel_format="yuvj420p"),
        "mjpeg avi": _of("avi", "mjpeg", pixel_format="yuvj420p"),
        "prores mov": _of("mov", "prores_ks", pixel_format="yuv422p10le"),
        "png mov": _of("mov", "png", pixel_format="rgb24"),
        "gif": _of("gif", "gif", pixel_format="gray"),
        "webp": _of("webp", "libwebp_anim", pixel_format="bgra", options={"lossless": "1"}),
        "apng": Case(cache(_animated_png)),
        "vp8 webm without a duration": _of("webm", "libvpx", muxer={"live": "1"}),
        "vp9 matroska without a duration": _of("matroska", "libvpx-vp9", muxer={"live": "1"}),
        "vob with sound": _of("vob", "mpeg2video", b_frames=2, rate=25, audio=True),
        "ts with sound": _of("mpegts", "libx264", b_frames=2, audio=True),
        "mp4 with sound": _of("mp4", "libx264", b_frames=2, audio=True),
    }
    for container, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("mpegts", "libx264"), ("webm", "libvpx")):
        found[f"{codec} {container}, uneven times"] = _of(container, codec, times=_GAPS)
    for container, codec in (("mp4", "libx264"), ("webm", "libvpx"), ("mpegts", "libx264"), ("mpeg", "mpeg1video")):
        one = _of(container, codec, numbers=[5], rate=25)
        found[f"{codec} {container} of one frame"] = Case(one.build, (5,))
    one_group = _of("mp4", "libx264", b_frames=2, key_every=100)
    sources = {"one group": one_group, "groups": found["h264 mp4 B2"], "open groups": found["h264 mp4, open groups"]}
    for name, source in (sources | {"hevc open groups": found["hevc mp4, open groups"]}).items():
        for container in ("mp4", "mov"):
            found[f"{name}, cut in {container}"] = _cut(source, container, 0.7, range(7, 30))
            found[f"{name}, cut late in {container}"] = _cut(source, container, 1.4, range(14, 30))
        for container in ("matroska", "mpegts", "flv"):
            found[f"{name}, cut in {container}"] = _cut(source, container, 0.7, range(30))
    for name in ("h264 matroska B2", "vp8 webm", "h264 mpegts B2"):
        found[f"{name}, two thirds of it"] = _start_of(found[name], 2 / 3)
    return found


def damaged_cases() -> dict[str, Case]:
    """Files whose last packets are there and cannot be decoded."""
    whole = cases()
    return {name: _start_of(whole[name], 2 / 3) for name in ("h264 flv B2", "mpeg2 mpeg B2", "h264 mp4 in fragments")}
