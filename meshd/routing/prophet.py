# SPDX-License-Identifier: Apache-2.0
"""Delivery predictabilities (PRoPHET, RFC 6693 section 2.1.2): how likely this node is to bring a bundle to another.

They grow with encounters, age with time and are passed on by nodes that meet. Here are the equations and a bounded
table of them; what is done with the ranking: spray_and_wait.py. Times are DTN time in seconds, so that a table outlives
a restart. Where a table of another node comes from, and who is believed, is for others to decide.
"""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from meshd.bundle.eid import Eid, parse_eid

ENCOUNTER_MAX: Final = 0.7
ENCOUNTER_FIRST: Final = 0.5
FIRST_THRESHOLD: Final = 0.1
BETA: Final = 0.9
GAMMA: Final = 0.999
DELTA: Final = 0.01
TIME_UNIT_S: Final = 60.0
"""With GAMMA: what was met once falls below the threshold after 27 hours, about the third of the days that it should
have been met on."""
TYPICAL_INTERVAL_S: Final = 1800.0
NODES_MAX: Final = 256
"""Nodes with a predictability; the least likely goes first."""
NEIGHBOURS_MAX: Final = 64
"""Neighbours whose own tables are kept; the one heard longest ago goes first."""


def aged(predictability: float, elapsed_s: float) -> float:
    """Equation 2; a clock that was put back does not make anything likelier."""
    return predictability * math.pow(GAMMA, max(0.0, elapsed_s) / TIME_UNIT_S)


def after_encounter(predictability: float, interval_s: float) -> float:
    """Equation 1 for an aged value and the time since its last encounter, and the rule for a first one."""
    if predictability < FIRST_THRESHOLD:
        return ENCOUNTER_FIRST
    scale = ENCOUNTER_MAX * min(1.0, max(0.0, interval_s) / TYPICAL_INTERVAL_S)
    return predictability + max(0.0, 1 - DELTA - predictability) * scale


def passed_on(old: float, neighbour: float, received: float) -> float:
    """Equation 3: P(A,C) from P(A,B) and what B says of C, which counts at most 1 - DELTA."""
    return max(old, neighbour * min(1 - DELTA, max(0.0, received)) * BETA)


class _Row(msgspec.Struct, array_like=True):
    """One predictability, as it was at a time, and when the node itself was last met (0: never)."""

    value: float
    at_s: float
    met_s: float = 0.0


_Note = dict[str, _Row]


class Predictabilities:
    """The table of one node."""

    def __init__(self, own_node: Eid) -> None:
        self._own_node = own_node
        self._rows: dict[Eid, _Row] = {}
        self._theirs: dict[Eid, dict[Eid, _Row]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, node: Eid, now_s: float) -> float:
        """P(here, node)."""
        return 1.0 if node == self._own_node else _value(self._rows.get(node), now_s)

    def of_neighbour(self, neighbour: Eid, node: Eid, now_s: float) -> float:
        """P(neighbour, node) as the neighbour last said; 0 when it has said nothing."""
        return 1.0 if node == neighbour else _value(self._theirs.get(neighbour, {}).get(node), now_s)

    def table(self, now_s: float) -> dict[Eid, float]:
        """What to tell a neighbour: all that is worth telling, aged."""
        values = {node: aged(row.value, now_s - row.at_s) for node, row in self._rows.items()}
        return {node: value for node, value in values.items() if value >= FIRST_THRESHOLD}

    def met(self, neighbour: Eid, now_s: float) -> None:
        """A link to it came up, or was up until now."""
        row = self._rows.get(neighbour)
        interval_s = now_s - row.met_s if row is not None and row.met_s else math.inf
        value = after_encounter(_value(row, now_s), interval_s)
        self._set(neighbour, _Row(value, now_s, now_s))

    def learn(self, neighbour: Eid, table: Mapping[Eid, float], now_s: float) -> None:
        """What a neighbour says of others; of a table that is too long the least likely count as not said."""
        likeliest = sorted(table.items(), key=lambda item: (-item[1], item[0].uri))[:NODES_MAX]
        self._theirs.pop(neighbour, None)
        self._theirs[neighbour] = {node: _Row(min(1.0, max(0.0, value)), now_s) for node, value in likeliest}
        if len(self._theirs) > NEIGHBOURS_MAX:
            del self._theirs[next(iter(self._theirs))]
        to_neighbour = self.of(neighbour, now_s)
        for node, received in likeliest:
            if node not in (self._own_node, neighbour):
                self._learn(node, passed_on(self.of(node, now_s), to_neighbour, received), now_s)

    def encode(self) -> bytes:
        """For the store: what this node itself believes."""
        note: _Note = {node.uri: row for node, row in self._rows.items()}
        return msgspec.msgpack.encode(note)

    def restore(self, data: bytes) -> None:
        """What `encode` gave before a restart.

        Errors:
            msgspec.MsgspecError, EidError: it is something else.
        """
        note = msgspec.msgpack.decode(data, type=_Note)
        for text, row in note.items():
            self._set(parse_eid(text), row)

    def _learn(self, node: Eid, value: float, now_s: float) -> None:
        row = self._rows.get(node)
        if value > _value(row, now_s):
            self._set(node, _Row(value, now_s, row.met_s if row is not None else 0.0))

    def _set(self, node: Eid, row: _Row) -> None:
        self._rows[node] = row
        if len(self._rows) > NODES_MAX:
            del self._rows[min(self._rows, key=lambda each: (_value(self._rows[each], row.at_s), each.uri))]


def _value(row: _Row | None, now_s: float) -> float:
    return 0.0 if row is None else aged(row.value, now_s - row.at_s)
