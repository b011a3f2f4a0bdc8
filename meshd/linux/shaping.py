# SPDX-License-Identifier: Apache-2.0
"""What a site shapes with on a device: kept as the kernel's own messages, so that it can be made again.

A dump of a qdisc, class or filter is nearly the request that makes it; where a kind differs, the difference stands
here. A record is also written down (in /run) while the gate is closed, because a daemon that is killed then must still
know on its next start what to put back. `traffic_control` reads and replays; nothing here touches the kernel.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from meshd.base.errors import MeshdError
from meshd.linux.netlink import as_text, attribute, attributes

RECORD_OBJECTS_MAX: Final = 4096
"""Qdiscs, classes and filters of one device that are kept; of more, the first."""
RECORD_SIZE_MAX_BYTES: Final = 16 * 1024 * 1024

ROOT: Final = 0xFFFFFFFF
TC_MESSAGE: Final = struct.Struct("=BBHiIII")
"""struct tcmsg: family, padding, ifindex, handle, parent, info."""

_NEWQDISC, _NEWTFILTER = 36, 44
_KIND, _OPTIONS, _STAB = 1, 2, 8
_HTB_INIT: Final = 2
_U32_DIVISOR, _U32_SEL, _U32_PCNT, _U32_FLAGS = 4, 5, 9, 11
_WITH_CHILDREN: Final = frozenset({"htb", "hfsc", "drr", "qfq", "ets", "cbq", "prio", "mq", "mqprio", "tbf", "netem"})
_WITH_CLASSES: Final = frozenset({"htb", "hfsc", "drr", "qfq", "cbq"})
"""Those whose classes are made by request; the others' come with the qdisc."""
_MAGIC: Final = b"meshd-shaping-1\n"
_ENTRY: Final = struct.Struct("=IH")


class ShapingRecordError(MeshdError):
    """A file with a shaping record is not one that we wrote."""


@dataclass(frozen=True, slots=True)
class TcObject:
    """A qdisc, class or filter: the request type that makes it, and the message that the kernel dumped for it."""

    type: int
    index: int
    handle: int
    parent: int
    info: int
    body: bytes

    @classmethod
    def from_dump(cls, kind: int, body: bytes) -> Self:
        """Read a dumped message of at least TC_MESSAGE's size."""
        _, _, _, index, handle, parent, info = TC_MESSAGE.unpack_from(body)
        return cls(kind, index, handle, parent, info, body)

    @property
    def kind(self) -> str:
        """Such as `tbf`."""
        return as_text(attributes(self.body[TC_MESSAGE.size :]).get(_KIND))

    def request_body(self, index: int) -> bytes:
        """What makes it again, on the device with this index."""
        parts = attributes(self.body[TC_MESSAGE.size :])
        if _OPTIONS in parts:
            parts[_OPTIONS] = self._options_as_requested(parts[_OPTIONS])
        kept = b"".join(attribute(kind, parts[kind]) for kind in (_KIND, _OPTIONS, _STAB) if kind in parts)
        return TC_MESSAGE.pack(0, 0, 0, index, self.handle, self.parent, self.info) + kept

    @property
    def comes_by_itself(self) -> bool:
        """True for what the kernel makes on its own: a filter's header and u32's first hash table."""
        if self.type != _NEWTFILTER:
            return False
        options = attributes(attributes(self.body[TC_MESSAGE.size :]).get(_OPTIONS, b""))
        return not self.handle or (self.kind == "u32" and _U32_DIVISOR in options and _U32_SEL not in options)

    def _options_as_requested(self, options: bytes) -> bytes:
        if self.type == _NEWQDISC and self.kind == "htb":
            return _htb_as_requested(options)
        if self.type == _NEWTFILTER and self.kind == "u32":
            parts = attributes(options)
            return b"".join(attribute(k, v) for k, v in parts.items() if k not in (_U32_FLAGS, _U32_PCNT))
        return options


ShapingRecord = tuple[TcObject, ...]
"""What a site had set up at the root, in the order in which it can be made again; empty: the kernel's default."""


def make_record(
    root: TcObject,
    qdiscs: Sequence[TcObject],
    classes: Sequence[TcObject],
    filters: Mapping[int, Sequence[TcObject]],
) -> ShapingRecord:
    """A root qdisc and everything below it, parents before children. `filters` is by their qdisc's handle."""
    found = (item for item in _subtree(root, qdiscs, classes, filters) if not item.comes_by_itself)
    return tuple(item for item, _ in zip(found, range(RECORD_OBJECTS_MAX), strict=False))


def _subtree(
    qdisc: TcObject,
    qdiscs: Sequence[TcObject],
    classes: Sequence[TcObject],
    filters: Mapping[int, Sequence[TcObject]],
) -> Iterator[TcObject]:
    major = _major(qdisc.handle)
    yield qdisc
    if qdisc.kind in _WITH_CLASSES:
        own = [found for found in classes if _major(found.handle) == major]
        # A dump is in hash order: an inner class must exist before its children.
        yield from sorted(own, key=lambda found: _depth(found, own))
    if qdisc.kind in _WITH_CHILDREN:
        for child in qdiscs:
            if child.parent != ROOT and _major(child.parent) == major and child.handle != qdisc.handle:
                yield from _subtree(child, qdiscs, classes, filters)
    yield from filters.get(qdisc.handle, ())


def _major(handle: int) -> int:
    return handle & 0xFFFF0000


def _depth(item: TcObject, classes: Sequence[TcObject]) -> int:
    parents = {found.handle: found.parent for found in classes}
    depth, handle = 0, item.parent
    while handle in parents and depth < len(parents):
        depth, handle = depth + 1, parents[handle]
    return depth


def _htb_as_requested(options: bytes) -> bytes:
    """htb dumps its version with its minor number and wants it back without (net/sched/sch_htb.c)."""
    parts = attributes(options)
    if len(parts.get(_HTB_INIT, b"")) < 4:
        return options
    version = struct.unpack_from("=I", parts[_HTB_INIT])[0] >> 16
    parts[_HTB_INIT] = struct.pack("=I", version) + parts[_HTB_INIT][4:]
    return b"".join(attribute(kind, value) for kind, value in parts.items())


def encode_record(record: ShapingRecord) -> bytes:
    """For a file."""
    return _MAGIC + b"".join(_ENTRY.pack(len(item.body), item.type) + item.body for item in record)


def decode_record_untrusted(data: bytes) -> ShapingRecord:
    """Read a file's content.

    Errors: ShapingRecordError.
    """
    if not data.startswith(_MAGIC) or len(data) > RECORD_SIZE_MAX_BYTES:
        raise ShapingRecordError("not a shaping record of meshd")
    record: list[TcObject] = []
    offset = len(_MAGIC)
    while offset < len(data):
        if offset + _ENTRY.size > len(data):
            raise ShapingRecordError("a shaping record is cut off")
        size, kind = _ENTRY.unpack_from(data, offset)
        offset += _ENTRY.size
        if size < TC_MESSAGE.size or offset + size > len(data):
            raise ShapingRecordError("a shaping record is cut off")
        record.append(TcObject.from_dump(kind, data[offset : offset + size]))
        offset += size
    return tuple(record)
