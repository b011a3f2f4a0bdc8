# SPDX-License-Identifier: Apache-2.0
"""What a node remembers of its links: encounters, from which contacts are predicted, and whom it is likely to meet.

Here the two tables are fed together and written as one note. What comes of them: encounters.py, prophet.py. When a link
comes up, and where the note is kept, is for others to say. Times are DTN time in seconds.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol, runtime_checkable

import msgspec

from meshd.bundle.eid import Eid
from meshd.bundle.errors import EidError
from meshd.link.identity import LinkId
from meshd.routing.contact import Contact
from meshd.routing.encounters import Encounters
from meshd.routing.prophet import Predictabilities

_VERSION: Final = 1


class _Note(msgspec.Struct, array_like=True):
    """In the store."""

    version: int
    encounters: bytes
    predictabilities: bytes


class History:
    """Owns both tables of one node."""

    def __init__(self, own_node: Eid) -> None:
        self.own_node = own_node
        self.encounters = Encounters(own_node)
        self.predictabilities = Predictabilities(own_node)
        self._up: set[LinkId] = set()

    def forget(self) -> None:
        """Nothing was."""
        self.encounters, self.predictabilities = Encounters(self.own_node), Predictabilities(self.own_node)
        self._up.clear()

    def link_up(self, link: LinkId, rate_bps: int, owd_s: float, dtn_s: float, *, radiates: bool) -> None:
        """An encounter begins."""
        self._up.add(link)
        self.encounters.began(link, rate_bps, owd_s, dtn_s, radiates=radiates)
        self.predictabilities.met(link.neighbour, dtn_s)

    def link_down(self, link: LinkId, dtn_s: float) -> None:
        """It is over."""
        self._up.discard(link)
        self.encounters.ended(link, dtn_s)
        self.predictabilities.met(link.neighbour, dtn_s)

    def table(self, dtn_s: float) -> dict[Eid, float]:
        """Predictabilities to tell others; whom this node is with is met now."""
        for node in sorted({link.neighbour for link in self._up}, key=str):
            self.predictabilities.met(node, dtn_s)
        return self.predictabilities.table(dtn_s)

    def note(self, dtn_s: float) -> bytes:
        """For the store."""
        return msgspec.msgpack.encode(_Note(_VERSION, self.encounters.encode(dtn_s), self.predictabilities.encode()))

    def restore(self, data: bytes) -> bool:
        """What `note` gave before a restart. False: it is something else, and nothing is remembered."""
        encounters, predictabilities = Encounters(self.own_node), Predictabilities(self.own_node)
        try:
            note = msgspec.msgpack.decode(data, type=_Note)
            if note.version != _VERSION:
                return False
            encounters.restore(note.encounters)
            predictabilities.restore(note.predictabilities)
        except (msgspec.MsgspecError, UnicodeDecodeError, EidError):
            return False
        self.encounters, self.predictabilities = encounters, predictabilities
        return True


@runtime_checkable
class HistoryUser(Protocol):
    """A router that goes by what was."""

    history: History

    def predict(self, contacts: Iterable[Contact]) -> None:
        """Contacts to expect, in place of those expected before."""

    def hear(self, node: Eid, table: Mapping[Eid, float], now_s: float) -> None:
        """What another node says of whom it is likely to meet."""
