# SPDX-License-Identifier: Apache-2.0
"""What of a dying segment has to outlive it: its marks and notes that are still needed.

Read back from the segment itself, so that nothing has to be kept in memory for deleted bundles. Needed are deletions
still to be remembered, deletions and releases of bundles whose put lies in another segment (without them a restart
would bring the bundle back, or drop it), and notes whose newest value lies here.
"""

from typing import Final

from meshd.store.contents import Contents, Segment
from meshd.store.disk import Disk
from meshd.store.record_format import MarkRow
from meshd.store.recovery import read_header, segment_name
from meshd.store.segment_scan import Group, SegmentScan

ROWS_MAX: Final = 4096
"""Marks in one group."""

Carried = list[tuple[list[MarkRow], list[MarkRow], dict[str, bytes]]]
"""Groups of deletes, releases and notes."""


def what_to_carry(disk: Disk, contents: Contents, segment: Segment, now_ms: int) -> Carried:
    """The groups to write before `segment`, which holds no live bundle, is unlinked; empty when none is needed."""
    deletes: list[MarkRow] = []
    releases: list[MarkRow] = []
    name, number = segment_name(segment.number), segment.number
    start = read_header(disk, name)[1]
    for item in SegmentScan(disk, name, number, start, segment.size_bytes, is_last=False).groups():
        if isinstance(item, Group):
            deletes += [row for row in item.body.deletes if contents.needs_delete(row, number, now_ms)]
            releases += [row for row in item.body.releases if contents.needs_release(row)]
    carried: Carried = [
        (deletes[begin : begin + ROWS_MAX], releases[begin : begin + ROWS_MAX], {})
        for begin in range(0, max(len(deletes), len(releases)), ROWS_MAX)
    ]
    notes = contents.notes_to_carry(number)
    if notes:
        carried.append(([], [], notes))
    return carried
