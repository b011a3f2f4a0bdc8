# SPDX-License-Identifier: Apache-2.0
"""The codec of the frames inside a sealed datagram (DESIGN section 5).

A datagram's plain text is one or more frames, each begun by a byte of type; numbers are big-endian and of fixed
length. A symbol that runs to the end of the datagram has no length, so that bulk pays 16 bytes a datagram:
`pack_frames` uses that form for a symbol that comes last, and only there. Only what can't be right whatever the state
is refused here; what frames mean is left to the machines.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final, assert_never

from meshd.cl.fountain.frames import (
    ACKS_MAX,
    ESI_MAX,
    FRAMES_MAX,
    GROUP_ALL,
    GROUP_MAX,
    HEARD_MAX,
    MEMBERS_MAX,
    NEXT_MAX_S,
    OBJECT_ID_BYTES,
    OBJECT_MAX_BYTES,
    PLAINTEXT_MAX_BYTES,
    PRECEDENCE_MAX,
    SYMBOLS_MAX,
    U32_MAX,
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

_SYMBOL: Final = 0x01
"""To the end of the datagram."""
_SYMBOL_SIZED: Final = 0x02
_ACK: Final = 0x03
_REFUSE: Final = 0x04
_NEED: Final = 0x05
_REPORT: Final = 0x06
_PING: Final = 0x07
_PONG: Final = 0x08
_SILENT: Final = 0x09
_BEACON: Final = 0x0A
_GROUP: Final = 0x0B
_HEARD: Final = 0x0C

_SYMBOL_HEAD: Final = struct.Struct("!Q8s")
"""Type 8 bits, object_bytes 24, esi 24, group 8; object_id."""
_LENGTH: Final = struct.Struct("!H")
_ACK_HEAD: Final = struct.Struct("!BHB")
_ACK_ROW: Final = struct.Struct("!8s8s")
_REFUSE_ALL: Final = struct.Struct("!BH8sB8s")
_NEED_ALL: Final = struct.Struct("!BH8sH")
_REPORT_ALL: Final = struct.Struct("!BHIHIIIIQ")
"""The counter is split into 16 and 32 bits."""
_PING_ALL: Final = struct.Struct("!BQ")
_PONG_ALL: Final = struct.Struct("!BHQI")
_SILENT_ALL: Final = struct.Struct("!BBI")
_BEACON_ALL: Final = struct.Struct("!BBHBI")
_GROUP_HEAD: Final = struct.Struct("!BBB")
_HEARD_HEAD: Final = struct.Struct("!BHBB")
_INDEX: Final = struct.Struct("!H")

SYMBOL_HEAD_BYTES: Final = _SYMBOL_HEAD.size
"""Before the data of a symbol that comes last in its datagram."""
SYMBOL_SIZED_HEAD_BYTES: Final = _SYMBOL_HEAD.size + _LENGTH.size
"""Before the data of any other symbol."""


def pack_frames(frames: Sequence[Frame]) -> bytes:
    """The plain text of a datagram. At least one frame; whether it fits the datagram is the caller's matter."""
    assert 0 < len(frames) <= FRAMES_MAX
    if len(frames) == 1 and isinstance(last := frames[0], Symbol):
        return _pack_symbol(last, _SYMBOL) + last.data
    parts = [_pack(frame) for frame in frames[:-1]]
    last = frames[-1]
    parts.append(_pack_symbol(last, _SYMBOL) + last.data if isinstance(last, Symbol) else _pack(last))
    return b"".join(parts)


def frame_bytes(frame: Frame) -> int:
    """What a frame takes in the plain text; a symbol at the end takes 2 bytes less."""
    match frame:
        case Symbol():
            return SYMBOL_SIZED_HEAD_BYTES + len(frame.data)
        case Ack():
            return _ACK_HEAD.size + _ACK_ROW.size * len(frame.rows)
        case Group():
            return _GROUP_HEAD.size + _INDEX.size * len(frame.members)
        case Heard():
            return _HEARD_HEAD.size + _INDEX.size * len(frame.nodes)
        case _:
            return _FIXED[type(frame)]


_FIXED: Final[dict[type[Frame], int]] = {
    Refuse: _REFUSE_ALL.size,
    Need: _NEED_ALL.size,
    Report: _REPORT_ALL.size,
    Ping: _PING_ALL.size,
    Pong: _PONG_ALL.size,
    Silent: _SILENT_ALL.size,
    Beacon: _BEACON_ALL.size,
}


def _pack_symbol(symbol: Symbol, kind: int) -> bytes:
    """The head; numbers out of range would run into each other."""
    assert 0 < symbol.object_bytes <= OBJECT_MAX_BYTES
    assert 0 <= symbol.esi <= ESI_MAX
    assert 0 <= symbol.group <= GROUP_MAX
    assert len(symbol.object_id) == OBJECT_ID_BYTES
    word = kind << 56 | symbol.object_bytes << 32 | symbol.esi << 8 | symbol.group
    return _SYMBOL_HEAD.pack(word, symbol.object_id)


def _pack(frame: Frame) -> bytes:
    match frame:
        case Symbol():
            return _pack_symbol(frame, _SYMBOL_SIZED) + _LENGTH.pack(len(frame.data)) + frame.data
        case Ack(node, rows):
            assert 0 < len(rows) <= ACKS_MAX
            packed = [_ACK_ROW.pack(row.object_id, row.tag) for row in rows]
            return _ACK_HEAD.pack(_ACK, node, len(rows)) + b"".join(packed)
        case Refuse(node, object_id, reason, tag):
            return _REFUSE_ALL.pack(_REFUSE, node, object_id, reason, tag)
        case Need(node, object_id, count):
            return _NEED_ALL.pack(_NEED, node, object_id, count)
        case Report(node, boot, counter, hold_us, received, lost, rate_bps):
            high, low = counter >> 32, counter & U32_MAX
            return _REPORT_ALL.pack(_REPORT, node, boot, high, low, hold_us, received, lost, rate_bps)
        case Ping(token):
            return _PING_ALL.pack(_PING, token)
        case Pong(node, token, hold_us):
            return _PONG_ALL.pack(_PONG, node, token, hold_us)
        case Silent(is_silent, for_s):
            return _SILENT_ALL.pack(_SILENT, is_silent, for_s)
        case Beacon(version, capabilities, precedence_max, object_max_bytes):
            return _BEACON_ALL.pack(_BEACON, version, capabilities, precedence_max, object_max_bytes)
        case Group(group, members):
            assert group != GROUP_ALL
            assert 0 < len(members) <= MEMBERS_MAX
            return _GROUP_HEAD.pack(_GROUP, group, len(members)) + b"".join(map(_INDEX.pack, members))
        case Heard(next_s, is_whole, nodes):
            assert 0 <= next_s <= NEXT_MAX_S
            assert len(nodes) <= HEARD_MAX
            return _HEARD_HEAD.pack(_HEARD, next_s, is_whole, len(nodes)) + b"".join(map(_INDEX.pack, nodes))
        case _:
            assert_never(frame)


def parse_frames_untrusted(plaintext: bytes) -> list[Frame]:
    """The frames of a datagram, at least one, in order.

    Errors:
        FrameError: any of them can't be right; none of them counts then.
    """
    size = len(plaintext)
    if not 0 < size <= PLAINTEXT_MAX_BYTES:
        raise FrameError(f"a datagram has {size} bytes of frames: 1 to {PLAINTEXT_MAX_BYTES} are possible")
    frames: list[Frame] = []
    pos = 0
    try:
        while pos < size:
            frame, pos = _READERS[plaintext[pos]](plaintext, pos)
            frames.append(frame)
            if len(frames) == FRAMES_MAX and pos < size:
                raise FrameError(f"a datagram has more than {FRAMES_MAX} frames")
    except struct.error as error:
        raise FrameError(f"a frame of type {plaintext[pos]} ends early at byte {size}") from error
    except KeyError as error:
        raise FrameError(f"the type of frame {plaintext[pos]} is unknown") from error
    return frames


def _read_symbol(data: bytes, pos: int) -> tuple[Frame, int]:
    return _symbol(data, pos, pos + _SYMBOL_HEAD.size, len(data))


def _read_symbol_sized(data: bytes, pos: int) -> tuple[Frame, int]:
    start = pos + SYMBOL_SIZED_HEAD_BYTES
    (length,) = _LENGTH.unpack_from(data, pos + _SYMBOL_HEAD.size)
    if start + length > len(data):
        raise FrameError(f"a symbol of {length} bytes does not fit its datagram")
    return _symbol(data, pos, start, start + length)


def _symbol(data: bytes, pos: int, start: int, end: int) -> tuple[Frame, int]:
    word, object_id = _SYMBOL_HEAD.unpack_from(data, pos)
    object_bytes = word >> 32 & 0xFFFFFF
    size = end - start
    if not 0 < object_bytes <= OBJECT_MAX_BYTES:
        raise FrameError(f"an object of {object_bytes} bytes is announced: 1 to {OBJECT_MAX_BYTES} are possible")
    if not size or object_bytes > size * SYMBOLS_MAX:
        raise FrameError(
            f"an object of {object_bytes} bytes would have more than {SYMBOLS_MAX} symbols of {size} bytes"
        )
    return Symbol(object_id, object_bytes, word >> 8 & ESI_MAX, word & GROUP_MAX, data[start:end]), end


def _read_ack(data: bytes, pos: int) -> tuple[Frame, int]:
    _, node, count = _ACK_HEAD.unpack_from(data, pos)
    start = pos + _ACK_HEAD.size
    end = start + count * _ACK_ROW.size
    if not count or end > len(data):
        raise FrameError(f"an ACK of {count} objects does not fit its datagram")
    rows = tuple(AckRow(object_id, tag) for object_id, tag in _ACK_ROW.iter_unpack(data[start:end]))
    return Ack(node, rows), end


def _read_refuse(data: bytes, pos: int) -> tuple[Frame, int]:
    _, node, object_id, reason, tag = _REFUSE_ALL.unpack_from(data, pos)
    return Refuse(node, object_id, reason, tag), pos + _REFUSE_ALL.size


def _read_need(data: bytes, pos: int) -> tuple[Frame, int]:
    _, node, object_id, count = _NEED_ALL.unpack_from(data, pos)
    return Need(node, object_id, count), pos + _NEED_ALL.size


def _read_report(data: bytes, pos: int) -> tuple[Frame, int]:
    _, node, boot, high, low, hold_us, received, lost, rate_bps = _REPORT_ALL.unpack_from(data, pos)
    return Report(node, boot, high << 32 | low, hold_us, received, lost, rate_bps), pos + _REPORT_ALL.size


def _read_ping(data: bytes, pos: int) -> tuple[Frame, int]:
    return Ping(_PING_ALL.unpack_from(data, pos)[1]), pos + _PING_ALL.size


def _read_pong(data: bytes, pos: int) -> tuple[Frame, int]:
    _, node, token, hold_us = _PONG_ALL.unpack_from(data, pos)
    return Pong(node, token, hold_us), pos + _PONG_ALL.size


def _read_silent(data: bytes, pos: int) -> tuple[Frame, int]:
    _, state, for_s = _SILENT_ALL.unpack_from(data, pos)
    if state > 1:
        raise FrameError(f"a SILENT has the state {state}: 0 and 1 are known")
    return Silent(bool(state), for_s), pos + _SILENT_ALL.size


def _read_beacon(data: bytes, pos: int) -> tuple[Frame, int]:
    _, version, capabilities, precedence_max, object_max_bytes = _BEACON_ALL.unpack_from(data, pos)
    if precedence_max > PRECEDENCE_MAX:
        raise FrameError(f"a BEACON has the precedence {precedence_max}: 0 to {PRECEDENCE_MAX} are known")
    return Beacon(version, capabilities, precedence_max, object_max_bytes), pos + _BEACON_ALL.size


def _read_group(data: bytes, pos: int) -> tuple[Frame, int]:
    _, group, count = _GROUP_HEAD.unpack_from(data, pos)
    start = pos + _GROUP_HEAD.size
    end = start + count * _INDEX.size
    if not count or group == GROUP_ALL or end > len(data):
        raise FrameError(f"a GROUP {group} of {count} members does not fit its datagram, or needs no explaining")
    return Group(group, tuple(node for (node,) in _INDEX.iter_unpack(data[start:end]))), end


def _read_heard(data: bytes, pos: int) -> tuple[Frame, int]:
    _, next_s, is_whole, count = _HEARD_HEAD.unpack_from(data, pos)
    start = pos + _HEARD_HEAD.size
    end = start + count * _INDEX.size
    if is_whole > 1 or count > HEARD_MAX or end > len(data):
        raise FrameError(f"a HEARD of {count} nodes does not fit its datagram, or is neither whole nor a part")
    return Heard(next_s, bool(is_whole), tuple(node for (node,) in _INDEX.iter_unpack(data[start:end]))), end


_READERS: Final[dict[int, Callable[[bytes, int], tuple[Frame, int]]]] = {
    _SYMBOL: _read_symbol,
    _SYMBOL_SIZED: _read_symbol_sized,
    _ACK: _read_ack,
    _REFUSE: _read_refuse,
    _NEED: _read_need,
    _REPORT: _read_report,
    _PING: _read_ping,
    _PONG: _read_pong,
    _SILENT: _read_silent,
    _BEACON: _read_beacon,
    _GROUP: _read_group,
    _HEARD: _read_heard,
}
