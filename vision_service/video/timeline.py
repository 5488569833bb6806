"""Frames that a player shows, in their order, from the packets of a container alone: nothing is decoded.

    packets, in the file's order    I0  P3  B1  B2  I6  B4  B5      (times; I begins a group of pictures)
    shown, in order of time         I0  B1  B2  P3  B4  B5  I6
    decoded from                    I0  I0  I0  I0  I0  I0  I6      B4 and B5 come after I6 and still need P3

A packet that an edit list hides is decoded, since others need it, and never shown.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import av

_WITHOUT_TIMES = ("avi",)
"""Containers that tell the order of decoding only."""
_VP8_SHOW_FRAME = 0x10
_H264_IDR = (5,)
_HEVC_IDR = (19, 20)


@dataclass(frozen=True)
class Timeline:
    """N shown frames in order."""

    times: tuple[int, ...]
    """When each is shown, in units of the stream's time base; ascending, all different."""
    starts: tuple[int, ...]
    """For each, the number of the packet, in the file's order, from which on it can be decoded."""
    start_times: tuple[int, ...]
    """The time of that packet."""
    is_plain: bool
    """Whether nothing is hidden or cut off, and every group of pictures can be decoded without the one before."""


@dataclass(frozen=True)
class _Key:
    ordinal: int
    time: int
    is_closed: bool


def read_timeline(packets: "Iterable[av.Packet[av.VideoStream]]", stream: av.VideoStream) -> Timeline | None:
    """The timeline; None where the packets do not tell, so that frames have to be counted by decoding all of them."""
    if stream.container.format.name in _WITHOUT_TIMES and stream.codec_context.has_b_frames:
        return None
    keys: list[_Key] = []
    shown: list[tuple[int, int, int]] = []
    is_plain = True
    for ordinal, packet in enumerate(packets):
        if packet.pts is None or _is_hidden_vp8(packet, stream):
            return None
        if packet.is_keyframe:
            keys.append(_Key(ordinal, packet.pts, _is_closed(packet, stream)))
        start = next((key for key in reversed(keys) if key.time <= packet.pts), None)
        if start is None:
            return None
        is_plain = is_plain and start is keys[-1] and start.is_closed and not (packet.is_discard or packet.is_corrupt)
        if not packet.is_discard:
            shown.append((packet.pts, start.ordinal, start.time))
    shown.sort()
    times, starts, start_times = zip(*shown, strict=True) if shown else ((), (), ())
    if len(set(times)) < len(times):
        return None
    return Timeline(times, starts, start_times, is_plain)


def _is_hidden_vp8(packet: "av.Packet[av.VideoStream]", stream: av.VideoStream) -> bool:
    """Whether this is a reference that VP8 keeps and never shows, in a packet of its own."""
    return stream.codec_context.name == "vp8" and packet.size > 0 and not memoryview(packet)[0] & _VP8_SHOW_FRAME


def _is_closed(packet: "av.Packet[av.VideoStream]", stream: av.VideoStream) -> bool:
    """Whether a key packet makes a decoder forget all that came before; others may begin a gradual refresh."""
    extradata = stream.codec_context.extradata or b""
    match stream.codec_context.name:
        case "h264":
            kinds = [unit & 0x1F for unit in _units(packet, extradata[4:5] if extradata[:1] == b"\1" else b"")]
            return any(kind in _H264_IDR for kind in kinds)
        case "hevc":
            kinds = [unit >> 1 & 0x3F for unit in _units(packet, extradata[21:22] if extradata[:1] == b"\1" else b"")]
            return any(kind in _HEVC_IDR for kind in kinds)
    return True


def _units(packet: "av.Packet[av.VideoStream]", length_size: bytes) -> list[int]:
    """First bytes of the NAL units: behind a length each, or, without `length_size`, behind start codes."""
    data = bytes(packet)
    if not length_size:
        return [unit[0] for unit in data.split(b"\0\0\1")[1:] if unit]
    size, place, units = (length_size[0] & 3) + 1, 0, []
    while place + size < len(data):
        units.append(data[place + size])
        place += size + int.from_bytes(data[place : place + size], "big")
    return units
