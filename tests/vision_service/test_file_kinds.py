"""What a file is, by its first bytes."""

import pytest

from tests.support.malformed import refused_pictures
from tests.support.pictures import file_of
from tests.support.videos import video_file
from vision_service.file_kinds import Medium, file_kind


@pytest.mark.parametrize(
    ("kind", "name"),
    [("JPEG", "JPEG"), ("PNG", "PNG"), ("WEBP", "WebP"), ("GIF", "GIF"), ("BMP", "BMP"), ("TIFF", "TIFF"),
     ("AVIF", "AVIF"), ("HEIF", "HEIC"), ("JPEG2000", "JPEG 2000"), ("MPO", "JPEG")],
)  # fmt: skip
def test_images(kind: str, name: str) -> None:
    found = file_kind(file_of(40, 30, kind=kind))
    assert found is not None
    assert (found.name, found.medium) == (name, Medium.IMAGE)


@pytest.mark.parametrize(
    ("container", "codec", "name"),
    [
        ("mp4", "libx264", "MP4 or MOV"), ("mov", "libx264", "MP4 or MOV"), ("3gp", "mpeg4", "MP4 or MOV"),
        ("matroska", "libx264", "Matroska or WebM"), ("webm", "libvpx", "Matroska or WebM"), ("avi", "mpeg4", "AVI"),
        ("flv", "libx264", "FLV"), ("mpeg", "mpeg1video", "MPEG-PS"), ("vob", "mpeg2video", "MPEG-PS"),
        ("mpegts", "libx264", "MPEG-TS"), ("mpeg2video", "mpeg2video", "MPEG-1 or MPEG-2"),
        ("h264", "libx264", "raw H.264"),
        ("hevc", "libx265", "raw HEVC"), ("ogg", "libvpx", "Ogg"), ("asf", "wmv2", "Windows Media"),
    ],
)  # fmt: skip
def test_videos(container: str, codec: str, name: str) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    found = file_kind(video_file(container, codec, numbers=range(3), rate=25, options=options))
    assert found is not None
    assert found.name == name


def test_the_transport_stream_of_a_camera() -> None:
    """Each packet behind four bytes of time."""
    data = video_file("mpegts", "libx264", numbers=range(3), muxer={"mpegts_m2ts_mode": "1"})
    assert data[4] == 0x47
    found = file_kind(data)
    assert found is not None
    assert found.name == "MPEG-TS"


def test_what_tells_nothing() -> None:
    for data in (b"", b"\0", bytes(1000), b"hello" * 100, b"\x89", b"RIFF\0\0\0\0WAVE", b"\x47" + bytes(600)):
        assert file_kind(data) is None


def test_what_names_other_files_is_no_video() -> None:
    """Playlists, session descriptions and the like, also behind the first bytes of a container."""
    for name, data in refused_pictures(b""):
        found = file_kind(data)
        if name in ("HLS", "concat", "SDP", "DASH", "PLS", "M3U", "EPS", "MVG"):
            assert found is None or found.medium is Medium.OTHER, name
