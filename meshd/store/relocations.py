# SPDX-License-Identifier: Apache-2.0
"""Where bundles lie that compaction has moved: whoever holds their old place still finds them.

The agent's records keep the place at which a bundle was first stored, and a bundle may be moved between the moment it
is to be sent and the moment it is read. An entry lives as long as the segment that its bundle was moved into: there
are at most as many entries as bundles that were moved and lie in segments that still exist.

Any thread may look up; one thread changes.
"""

from meshd.bundle.record import PayloadRef

_Place = tuple[int, int]


class Relocations:
    """From (segment, offset) as it was first to where it is now."""

    def __init__(self) -> None:
        self._now: dict[_Place, PayloadRef] = {}
        self._into: dict[int, dict[_Place, list[_Place]]] = {}
        """For each segment that bundles were moved into: place there to the earlier places that lead to it."""

    def __len__(self) -> int:
        return len(self._now)

    def find(self, ref: PayloadRef) -> PayloadRef:
        """Where it is now: `ref` itself when it never moved."""
        return self._now.get((ref.segment, ref.offset), ref) if self._now else ref

    def move(self, old: PayloadRef, new: PayloadRef) -> None:
        """A bundle lies at `new` now; places that led to `old` lead there too."""
        place = (old.segment, old.offset)
        earlier = self._into.get(old.segment, {}).pop(place, [])
        earlier.append(place)
        for each in earlier:
            self._now[each] = new
        self._into.setdefault(new.segment, {})[new.segment, new.offset] = earlier

    def forget_segment(self, number: int) -> None:
        """Nothing is left in this segment: what was moved into it and not out again is gone."""
        for places in self._into.pop(number, {}).values():
            for place in places:
                del self._now[place]
