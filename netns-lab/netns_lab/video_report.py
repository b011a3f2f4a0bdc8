# SPDX-License-Identifier: Apache-2.0
"""What became of a video at each of its receivers: figures from what was sent and seen, and a table of them."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from netns_lab.video_clip import KLV_PID, VIDEO_PID, packet_pid, starts_unit
from netns_lab.video_ends import Recording, match, unique

ALL: Final = "all"
LEVELS: Final = {
    "all": ALL,
    "key_frames_and_klv": "key frames + KLV",
    "klv_only": "KLV only",
    "paused": "nothing",
}
NOTHING: Final = "-"


@dataclass(frozen=True, slots=True)
class Spell:
    """From when to when, on the clock of time.monotonic()."""

    begin_s: float
    end_s: float

    def covers(self, time_s: float) -> bool:
        """It is within."""
        return self.begin_s <= time_s <= self.end_s


@dataclass(slots=True)
class Viewed:
    """One receiver."""

    name: str
    over: str
    """The link, for people."""
    outage: Spell | None = None
    levels: list[tuple[float, str]] = field(default_factory=list)
    """What the link was given live: seconds since the video began, and the new level."""
    latencies_ms: list[int] = field(default_factory=list)
    """As the daemon shows it, from the time stamps in the KLV."""
    on_time_pct: float | None = None
    """As the daemon shows it at the end."""
    packets_pct: float = 0.0
    packets_pct_outside: float = 0.0
    """Without those that were sent during the outage."""
    pictures: int = 0
    """That a decoder made of it;"""
    damaged: int = 0
    """of these, not what the source's decoder makes;"""
    complaints: int = 0
    """and what it complained of."""
    klv_sets: int = 0
    delays_s: list[float] = field(default_factory=list)
    back_s: float | None = None
    """From the end of the outage to the first picture sent after it that was seen: when it was sent."""
    standstill_s: float = 0.0
    """Between two pictures that were shown one after the other, at most."""
    filled_s: float | None = None
    """From the end of the video until its archive was whole."""
    is_identical: bool = False

    def level_at(self, after_s: float) -> str:
        """What the link was given so many seconds after the video began."""
        return next((level for at_s, level in reversed(self.levels) if at_s <= after_s), ALL)

    def compare(self, sent: Recording, seen: Recording) -> None:
        """Fill in what the two recordings say."""
        packets = unique(sent.packets())
        pairs = match(packets, seen.packets())
        self.packets_pct = _percent(len(pairs), len(packets))
        self.delays_s = [seen_s - sent_s for _, sent_s, seen_s in pairs]
        self.klv_sets = count_units(seen.packets(), KLV_PID)
        shown_s = sorted(sent_s for packet, sent_s, _ in pairs if is_unit(packet, VIDEO_PID))
        self.standstill_s = max((after_s - before_s for before_s, after_s in pairwise(shown_s)), default=0.0)
        if self.outage is None:
            return
        sent_outside = sum(not self.outage.covers(sent_s) for _, sent_s in packets)
        seen_outside = sum(not self.outage.covers(sent_s) for _, sent_s, _ in pairs)
        self.packets_pct_outside = _percent(seen_outside, sent_outside)
        end_s = self.outage.end_s
        self.back_s = min((sent_s - end_s for sent_s in shown_s if sent_s > end_s), default=None)


@dataclass(frozen=True, slots=True)
class Report:
    """Of all."""

    rate_bps: float
    pictures: int
    klv_sets: int
    viewed: Sequence[Viewed]

    def holds(self) -> bool:
        """Everybody saw something, and has an archive that is what was sent."""
        return all(each.pictures and each.is_identical for each in self.viewed)

    def text(self) -> str:
        """The table."""
        sent = f"video: {self.rate_bps / 1e6:.2f} Mbit/s, {self.pictures} pictures, {self.klv_sets} KLV sets\n"
        rows = [("", *(f"{each.name} over {each.over}" for each in self.viewed))]
        rows += [(label, *(show(self, each) for each in self.viewed)) for label, show in _ROWS]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([sent, *lines])


def count_units(packets: Sequence[tuple[bytes, float]], pid: int) -> int:
    """Pictures of the video's PID, or local sets of the KLV's."""
    return sum(is_unit(packet, pid) for packet, _ in packets)


def is_unit(packet: bytes, pid: int) -> bool:
    """One of these begins in the packet."""
    return packet_pid(packet) == pid and starts_unit(packet)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def _levels(_: Report, each: Viewed) -> str:
    return ", ".join([ALL, *(f"from {at_s:.0f} s {level}" for at_s, level in each.levels)])


def _on_time(_: Report, each: Viewed) -> str:
    return NOTHING if each.on_time_pct is None else f"{each.on_time_pct:.1f} %"


def _packets_outside(_: Report, each: Viewed) -> str:
    return NOTHING if each.outage is None else f"{each.packets_pct_outside:.1f} %"


def _delay(_: Report, each: Viewed) -> str:
    if not each.delays_s:
        return NOTHING
    return f"{statistics.median(each.delays_s):.2f} s, at most {max(each.delays_s):.2f} s"


def _latency(_: Report, each: Viewed) -> str:
    return f"{statistics.median(each.latencies_ms) / 1000:.2f} s" if each.latencies_ms else NOTHING


def _back(_: Report, each: Viewed) -> str:
    if each.outage is None:
        return NOTHING
    return "never" if each.back_s is None else f"sent {each.back_s:.2f} s after its end"


def _archive(_: Report, each: Viewed) -> str:
    if each.filled_s is None:
        return "NOT COMPLETE"
    return f"{'bit-identical' if each.is_identical else 'DIFFERENT'}, {each.filled_s:.0f} s after the end"


_ROWS: Final[tuple[tuple[str, Callable[[Report, Viewed], str]], ...]] = (
    ("sent live", _levels),
    ("pictures shown", lambda report, each: f"{each.pictures} of {report.pictures}, {each.damaged} damaged"),
    ("KLV sets shown", lambda report, each: f"{each.klv_sets} of {report.klv_sets}"),
    ("TS packets shown", lambda _, each: f"{each.packets_pct:.1f} %"),
    ("  outside the outage", _packets_outside),
    ("on time, by stream stats", _on_time),
    ("source to screen", _delay),
    ("latency by KLV", _latency),
    ("first picture after it", _back),
    ("longest standstill", lambda _, each: f"{each.standstill_s:.1f} s"),
    ("decoder complaints", lambda _, each: str(each.complaints)),
    ("archive", _archive),
)
