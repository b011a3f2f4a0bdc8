# SPDX-License-Identifier: Apache-2.0
"""What a receiver remembers of one sender, so that no datagram counts twice, over restarts too.

Bits for the last counters of the sender's running boot number; what is older is refused. A higher boot number begins
anew, a lower one is refused. A mark on the disk says up to where everything is spent: it is written ahead of what was
seen, and what lies beyond the durable one waits for it. After a kill all up to the mark is refused: at most `ahead`
datagrams that were never seen, which a rateless code makes up for; so `ahead` should be about a second of the bearer.
Nothing here is authentic by itself: `take` is called once the datagram is.
"""

import enum
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError
from meshd.security.boot_number import BOOT_NUMBER_MAX

WINDOW_COUNTERS: Final = 4096
COUNTER_MAX: Final = (1 << 48) - 1
MARKS_FILE_MAX_BYTES: Final = 1024 * 1024
MARKS_MAX: Final = 1024

_HEADER: Final = "meshd-link-marks 1"
_END: Final = "end"
_LINE: Final = re.compile(r"(\S+) (0|[1-9][0-9]{0,9}) (0|[1-9][0-9]{0,14})")
_ALL: Final = (1 << WINDOW_COUNTERS) - 1


class Mark(msgspec.Struct, frozen=True, gc=False, order=True):
    """All counters of this boot number up to this one are spent, and all of lower boot numbers."""

    boot: int
    counter: int


NO_MARK: Final = Mark(0, 0)
"""Of a sender never heard: boot numbers and counters begin at 1."""


class Novelty(enum.Enum):
    """What a boot number and counter are to a window."""

    NEW = enum.auto()
    REPLAYED = enum.auto()
    TOO_OLD = enum.auto()
    """Behind the window, or of an earlier boot number."""


class ReplayWindow:
    """One sender's."""

    def __init__(self, mark: Mark, ahead: int) -> None:
        """Args: `mark` as it was saved last; `ahead`: by how many counters a mark is put ahead."""
        assert ahead >= 2
        self._ahead = ahead
        self._boot, self._highest = mark.boot, mark.counter
        self._bits = _ALL
        self._durable = mark
        self.wanted = mark
        """The mark that should be on the disk."""
        self._is_heard = False

    @property
    def spent(self) -> Mark:
        """Up to where everything was taken, or was refused from the start because of the mark."""
        return Mark(self._boot, self._highest)

    @property
    def heard(self) -> Mark:
        """The highest that was taken since the start; `spent` may be a mark ahead of what the sender ever sent."""
        return self.spent if self._is_heard else NO_MARK

    def judge(self, boot: int, counter: int) -> Novelty:
        """Changes nothing."""
        if boot != self._boot:
            return Novelty.NEW if boot > self._boot else Novelty.TOO_OLD
        behind = self._highest - counter
        if behind < 0:
            return Novelty.NEW
        if behind >= WINDOW_COUNTERS:
            return Novelty.TOO_OLD
        return Novelty.REPLAYED if self._bits >> behind & 1 else Novelty.NEW

    def take(self, boot: int, counter: int) -> bool:
        """Count one that is new and authentic as seen; False: it has to wait until `wanted` is durable."""
        self._is_heard = True
        if boot > self._boot:
            self._boot, self._highest, self._bits = boot, counter, 1
        elif (step := counter - self._highest) > 0:
            self._bits = (self._bits << step | 1) & _ALL if step < WINDOW_COUNTERS else 1
            self._highest = counter
        else:
            self._bits |= 1 << -step
        wanted = self.wanted
        if wanted.boot < boot or wanted.counter < min(counter + self._ahead // 2, COUNTER_MAX):
            self.wanted = Mark(boot, min(counter + self._ahead, COUNTER_MAX))
        durable = self._durable
        return durable.boot == boot and counter <= durable.counter

    def saved(self, mark: Mark) -> None:
        """This mark, asked for before, is on the disk."""
        self._durable = max(self._durable, mark)

    def is_durable(self, boot: int, counter: int) -> bool:
        """True when one that waited need wait no longer."""
        return Mark(boot, counter) <= self._durable


def pack_marks(marks: Mapping[Eid, Mark]) -> bytes:
    """The content of the file with a bearer's marks."""
    assert len(marks) <= MARKS_MAX
    lines = [_HEADER, *(f"{node.uri} {mark.boot} {mark.counter}" for node, mark in marks.items()), _END]
    return ("\n".join(lines) + "\n").encode()


def parse_marks_untrusted(data: bytes, name: str) -> dict[Eid, Mark]:
    """Mark by node ID. Errors: SettingsError: a damaged file is no lost one."""
    text = data.decode("ascii", "replace") if len(data) <= MARKS_FILE_MAX_BYTES else ""
    lines = text.split("\n")
    if len(lines) > MARKS_MAX + 3 or lines[0] != _HEADER or lines[-2:] != [_END, ""]:
        raise SettingsError(f"{name} holds no whole list of marks: remove it and roll the link key")
    marks: dict[Eid, Mark] = {}
    for number, line in enumerate(lines[1:-2], 2):
        match = _LINE.fullmatch(line)
        if match is None or int(match[2]) > BOOT_NUMBER_MAX or int(match[3]) > COUNTER_MAX:
            raise SettingsError(f"{name}:{number} is damaged: remove the file and roll the link key")
        try:
            marks[check_node_id(parse_eid(match[1]))] = Mark(int(match[2]), int(match[3]))
        except EidError as error:
            raise SettingsError(f"{name}:{number}: {error}") from error
    return marks
