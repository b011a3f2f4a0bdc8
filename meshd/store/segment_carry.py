# SPDX-License-Identifier: Apache-2.0
"""What of a dying segment has to outlive it: its marks and notes that are still needed.

Read back from the segment itself, so that nothing has to be kept in memory for deleted bundles. Needed are deletions
still to be remembered, deletions and releases of bundles whose put lies in another segment (without them a restart
would bring the bundle back, or drop it), and notes whose newest value lies here.
"""

from typing import Final, NamedTuple

from meshd.bundle.record import BundleId
from meshd.store.contents import Contents, Segment
from meshd.store.disk import Disk
from meshd.store.group_body import NO_MARKS, Marks
from meshd.store.segment_scan import Group, scan_segment

ROWS_MAX: Final = 4096
"""Marks in one group."""

_Row = tuple[BundleId, int, int]


class _Columns:
    """Marks in columns, as they lie in a group."""

    def __init__(self) -> None:
        self.ids: list[BundleId] = []
        self._put_segments: list[int] = []
        self._remember_until_ms: list[int] = []

    def extend(self, marks: Marks) -> None:
        """Take a group's marks."""
        self.ids.extend(marks.ids)
        self._put_segments.extend(marks.put_segments)
        self._remember_until_ms.extend(marks.remember_until_ms)

    def append(self, row: _Row) -> None:
        """Take one mark."""
        self.ids.append(row[0])
        self._put_segments.append(row[1])
        self._remember_until_ms.append(row[2])

    def part(self, begin: int) -> Marks:
        """Marks from this one on, as many as a group takes."""
        rows = slice(begin, begin + ROWS_MAX)
        return Marks(self.ids[rows], self._put_segments[rows], self._remember_until_ms[rows])


class CarriedGroup(NamedTuple):
    """A group to write before a segment is unlinked."""

    deletes: Marks
    releases: Marks
    notes: dict[str, bytes]


def what_to_carry(disk: Disk, contents: Contents, segment: Segment, now_ms: int) -> list[CarriedGroup]:
    """The groups to write before `segment`, which holds no live bundle, is unlinked; empty when none is needed."""
    deletes, releases = _Columns(), _Columns()
    number = segment.number
    for item in scan_segment(disk, number, segment.size_bytes):
        if not isinstance(item, Group):
            continue
        marks = item.body.deletes
        if marks.ids and min(marks.remember_until_ms) > now_ms:
            deletes.extend(marks)  # all of them: by far the most frequent case
        else:
            for row in zip(*marks, strict=True):
                if contents.needs_delete(row[1], row[2], number, now_ms):
                    deletes.append(row)
        for row in zip(*item.body.releases, strict=True):
            if contents.needs_release(row[0], row[1]):
                releases.append(row)
    carried = [
        CarriedGroup(deletes.part(begin), releases.part(begin), {})
        for begin in range(0, max(len(deletes.ids), len(releases.ids)), ROWS_MAX)
    ]
    notes = contents.notes_to_carry(number)
    if notes:
        carried.append(CarriedGroup(NO_MARKS, NO_MARKS, notes))
    return carried
