# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: the plain text of a datagram, which any member of the mission can have sealed."""

from meshd.cl.fountain.frame_codec import frame_bytes, pack_frames, parse_frames_untrusted
from meshd.cl.fountain.frames import (
    FRAMES_MAX,
    OBJECT_MAX_BYTES,
    SYMBOLS_MAX,
    Ack,
    AckRow,
    Beacon,
    Frame,
    FrameError,
    Group,
    Heard,
    Need,
    Ping,
    Pong,
    Refuse,
    Report,
    Silent,
    Symbol,
)
from tests.fuzz.counted_bytes import CountedBytes, assert_linear

_ID = b"obj-0001"
_TAG = b"tag-0001"
_EXAMPLES: dict[str, Frame] = {
    "symbol": Symbol(_ID, 1 << 20, 7, 0, bytes(range(64)) * 8),
    "ack": Ack(0x1234, (AckRow(_ID, _TAG), AckRow(_TAG, _ID))),
    "refuse": Refuse(0x1234, _ID, 1, _TAG),
    "need": Need(0x1234, _ID, 3),
    "report": Report(0x1234, 1_800_000_000, 1 << 40, 1000, 60, 4, 10_000_000),
    "ping": Ping(1 << 63),
    "pong": Pong(0x1234, 1 << 63, 1000),
    "silent": Silent(True, 3600),
    "beacon": Beacon(1, 3, 5, 1 << 20),
    "group": Group(1, (1, 2, 0xFFFF)),
    "heard": Heard(66, True, (1, 2, 0xFFFF)),
}


def check(data: bytes) -> None:
    """One input."""
    counted = CountedBytes(data)
    try:
        frames = parse_frames_untrusted(counted)
    except FrameError:
        assert_linear(counted, 2, 8)
        return
    assert_linear(counted, 2, 8)
    assert 0 < len(frames) <= FRAMES_MAX
    for frame in frames:
        if isinstance(frame, Symbol):
            assert 0 < frame.object_bytes <= min(OBJECT_MAX_BYTES, SYMBOLS_MAX * len(frame.data))
    again = pack_frames(frames)
    assert parse_frames_untrusted(again) == frames, "written again they mean something else"
    assert len(again) <= len(data)
    assert sum(map(frame_bytes, frames)) - len(again) == 2 * isinstance(frames[-1], Symbol)


def seeds() -> dict[str, bytes]:
    """A frame of each kind, alone and together."""
    each = {name: pack_frames([frame]) for name, frame in _EXAMPLES.items()}
    return each | {"all": pack_frames(list(_EXAMPLES.values())), "symbols": pack_frames([_EXAMPLES["symbol"]] * 3)}


def dictionary() -> list[bytes]:
    """Types, limits, and heads that claim much."""
    return [bytes((kind,)) for kind in range(1, 13)] + [
        b"\x01\x20\x00\x00",
        b"\x01\xff\xff\xff",
        b"\x03\0\0\xff",
        b"\x0b\x01\xff",
        b"\x0c\0\x42\x01\x20",
        _ID,
    ]
