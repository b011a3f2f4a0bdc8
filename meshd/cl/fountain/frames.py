# SPDX-License-Identifier: Apache-2.0
"""The frames inside a sealed datagram, and their limits (DESIGN section 5). The codec is in `frame_codec.py`.

Nodes are named by the index that the sealed header uses for them on this bearer (`security/node_index.py`). ACK,
REFUSE, NEED, REPORT and PONG say for whom they are, since on a multicast bearer everybody hears them; BEACON, HEARD,
SYMBOL, GROUP, PING and SILENT are for all. Who sent a datagram, and that it was a member, is known from its seal; that
ACK and REFUSE come from the very node is known from their tag (`security/pairwise.py`). What frames mean is left to the
machines.
"""

from typing import Final

import msgspec

from meshd.base.errors import RemoteProtocolError

VERSION: Final = 1
"""Of these frames; told by BEACON."""
OBJECT_ID_BYTES: Final = 8
PLAINTEXT_MAX_BYTES: Final = 65_536
FRAMES_MAX: Final = 128
"""In one datagram: more is a peer that wants to keep us busy."""
OBJECT_MAX_BYTES: Final = 2 * 1024 * 1024
SYMBOLS_MAX: Final = 8192
"""Source symbols of an object: with OBJECT_MAX_BYTES, what a decoder may ever have to hold."""
ESI_MAX: Final = (1 << 24) - 1
GROUP_MAX: Final = (1 << 8) - 1
GROUP_ALL: Final = 0
"""The group of a symbol whose object is for whoever its head names: no GROUP frame explains it."""
MEMBERS_MAX: Final = 255
HEARD_MAX: Final = 32
"""Nodes that one HEARD names: more take their turns."""
NEXT_MAX_S: Final = 65_535
ACKS_MAX: Final = 255
PRECEDENCE_MAX: Final = 5
U32_MAX: Final = (1 << 32) - 1


class FrameError(RemoteProtocolError):
    """The plain text of a datagram is no sequence of frames; the whole datagram is dropped."""


class Symbol(msgspec.Struct, frozen=True, gc=False):
    """One encoding symbol of an object. Its size is that of the data; of one object all have the same."""

    object_id: bytes
    object_bytes: int
    esi: int
    group: int
    data: bytes


class AckRow(msgspec.Struct, frozen=True, gc=False):
    """One object acknowledged: decoded, checked and durable at whoever sent this."""

    object_id: bytes
    tag: bytes


class Ack(msgspec.Struct, frozen=True):
    """Objects that node `node` need not send any more to the sender of this."""

    node: int
    rows: tuple[AckRow, ...]


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """The object is not wanted and never will be: no room, or not acceptable. Tagged as an ACK is."""

    node: int
    object_id: bytes
    reason: int
    tag: bytes


class Need(msgspec.Struct, frozen=True, gc=False):
    """So many more symbols would decode this object of node `node`; 0: it has enough, and will acknowledge it."""

    node: int
    object_id: bytes
    count: int


class Report(msgspec.Struct, frozen=True, gc=False):
    """What arrived from node `node`: boot number, highest counter, counts modulo 2^32 since the first one heard, rate.

    The counter came `hold_us` before this left, so that its sender finds the round trip. A boot number or counter that
    `node` has not used means that its state was restored from a copy: it must stop sending.
    """

    node: int
    boot: int
    counter: int
    hold_us: int
    received: int
    lost: int
    rate_bps: int


class Ping(msgspec.Struct, frozen=True, gc=False):
    """Answer with PONG, whoever hears this."""

    token: int


class Pong(msgspec.Struct, frozen=True, gc=False):
    """The token of a PING of node `node`, which came `hold_us` before this left."""

    node: int
    token: int
    hold_us: int


class Silent(msgspec.Struct, frozen=True, gc=False):
    """The sender falls silent on order, for so long (0: not said), or is silent no longer."""

    is_silent: bool
    for_s: int


class Beacon(msgspec.Struct, frozen=True, gc=False):
    """The sender is there: what it can (bits), and the highest precedence that it takes."""

    version: int
    capabilities: int
    precedence_max: int
    object_max_bytes: int


class Group(msgspec.Struct, frozen=True):
    """Symbols of the sender that carry this group's number are for these nodes."""

    group: int
    members: tuple[int, ...]


class Heard(msgspec.Struct, frozen=True):
    """Nodes that the sender has heard of late: who is not among them, where the list is whole, does not reach it.

    The sender is heard again after `next_s` seconds at the latest, as long as nothing is lost.
    """

    next_s: int
    is_whole: bool
    nodes: tuple[int, ...]


Frame = Symbol | Ack | Refuse | Need | Report | Ping | Pong | Silent | Beacon | Group | Heard
