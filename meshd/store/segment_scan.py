# SPDX-License-Identifier: Apache-2.0
"""Reading a segment from its beginning to its end: valid groups, and what lies between them when it is damaged.

Used by recovery and when the marks of a dying segment are carried on. What the groups mean is left to those.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from meshd.bundle.crc import crc32c
from meshd.store.disk import Disk
from meshd.store.file_names import segment_name
from meshd.store.group_body import GroupBody, decode_body
from meshd.store.record_format import (
    CRC_BYTES,
    GROUP_MAGIC,
    HEAD_BYTES,
    SEGMENT_HEAD_BYTES,
    SEGMENT_HEADER_MAX_BYTES,
    GroupHead,
    SegmentHeader,
    decode_head,
    decode_segment_header,
    pack_crc,
)

WINDOW_BYTES: Final = 256 * 1024
"""Read at a time where many small groups lie side by side."""
SPARSE_WINDOW_BYTES: Final = 32 * 1024
"""Read at a time where groups are larger than a window: their bundles are passed over unread."""


class Group(msgspec.Struct, frozen=True, gc=False):
    """A valid group."""

    head: GroupHead
    body: GroupBody


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that are no valid group although there should be one."""

    offset: int
    size_bytes: int
    is_tail: bool
    """True: nothing follows that proves them to have been durable, so a torn write explains them."""


class SegmentScan:
    """One pass over the groups of a segment.

    Args:
        start: where the first group begins.
        end: where the segment ends, whatever follows in the file.
        is_last: the bundles' own CRCs are checked too, and a torn tail is possible. In other segments a damaged bundle
            is found when it is read: they were synced, so no group can be there by half.
    """

    def __init__(self, disk: Disk, name: str, number: int, start: int, end: int, is_last: bool) -> None:
        self._disk = disk
        self._name = name
        self._number = number
        self._start = start
        self._end = end
        self._is_last = is_last
        self._window = b""
        self._window_offset = 0
        self._window_bytes = WINDOW_BYTES

    def groups(self) -> Iterator[Group | Damage]:
        """Yield everything in order. A tail that is torn comes last, as Damage."""
        pos = self._start
        while pos < self._end:
            group = self._group_at(pos)
            if group is None:
                pos, damage = self._pass_damage(pos)
                yield damage
            else:
                yield group
                is_sparse = group.head.bundle_bytes > WINDOW_BYTES // 2
                self._window_bytes = SPARSE_WINDOW_BYTES if is_sparse else WINDOW_BYTES
                pos = group.head.end

    def _pass_damage(self, pos: int) -> tuple[int, Damage]:
        """Find where to go on after a damage at `pos`."""
        resume, proven = self._end, not self._is_last
        for later in self._later_groups(pos + 1):
            resume = min(resume, later.head.offset)
            proven = proven or later.head.synced_bytes > pos
            if proven:
                break
        if not proven:
            resume = self._end
        return resume, Damage(pos, resume - pos, is_tail=not proven)

    def _later_groups(self, pos: int) -> Iterator[Group]:
        """Search for valid groups from `pos` on, one magic after the other."""
        while pos < self._end:
            window = self._read(pos, min(WINDOW_BYTES, self._end - pos))
            found = window.find(GROUP_MAGIC)
            if found < 0:
                pos += max(1, len(window) - len(GROUP_MAGIC) + 1)
                continue
            group = self._group_at(pos + found)
            if group is None:
                pos += found + 1
            else:
                yield group
                pos = group.head.end

    def _group_at(self, pos: int) -> Group | None:
        head = decode_head(self._read(pos, HEAD_BYTES), self._number, pos)
        if head is None or head.end > self._end:
            return None
        body = decode_body(self._read(pos + HEAD_BYTES, head.body_bytes), head, self._number)
        if body is None or (self._is_last and not self._bundles_are_whole(head, body)):
            return None
        return Group(head, body)

    def _bundles_are_whole(self, head: GroupHead, body: GroupBody) -> bool:
        places = [ref for ref in body.places if ref.segment == self._number]
        if head.bundle_bytes > WINDOW_BYTES:
            return all(_is_whole(self._read(ref.offset, ref.size_bytes + CRC_BYTES)) for ref in places)
        start = head.bundles_offset
        data = self._read(start, head.bundle_bytes)
        return all(
            _is_whole(data[ref.offset - start : ref.offset - start + ref.size_bytes + CRC_BYTES]) for ref in places
        )

    def _read(self, offset: int, size_bytes: int) -> bytes:
        """Read through a window: small groups lie side by side, large bundles are passed over unread."""
        begin = offset - self._window_offset
        if begin < 0 or begin + size_bytes > len(self._window):
            if size_bytes > self._window_bytes:
                return self._disk.read(self._name, offset, size_bytes)
            self._window = self._disk.read(self._name, offset, self._window_bytes)
            self._window_offset = offset
            begin = 0
        return self._window[begin : begin + size_bytes]


def _is_whole(bundle: bytes) -> bool:
    """True when these bytes are a bundle and its CRC."""
    return bundle[-CRC_BYTES:] == pack_crc(crc32c(bundle[:-CRC_BYTES]))


def read_header(disk: Disk, name: str) -> tuple[SegmentHeader | None, int]:
    """A segment's header, None when it is torn or damaged, and where to look for the first group.

    Errors:
        StoreError: it is of another version.
    """
    decoded = decode_segment_header(disk.read(name, 0, SEGMENT_HEADER_MAX_BYTES), name)
    return decoded or (None, SEGMENT_HEAD_BYTES)


def scan_segment(disk: Disk, number: int, end: int) -> Iterator[Group | Damage]:
    """The groups of a segment that is durable up to `end`."""
    name = segment_name(number)
    start = read_header(disk, name)[1]
    return SegmentScan(disk, name, number, start, end, is_last=False).groups()
