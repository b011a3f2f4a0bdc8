# SPDX-License-Identifier: Apache-2.0
"""What the monitor reads out of notifications; that the kernel sends them is for the lab."""

import contextlib
import struct

from meshd.linux.link_monitor import (
    EventsLost,
    KernelChange,
    LinkChanged,
    LinkMonitor,
    RulesetChanged,
    TrafficControlChanged,
    changes_of,
)
from meshd.linux.netlink import Message, be32, text

OURS, THEIRS = 77, 88


def nft(kind: int, *parts: bytes, port: int = THEIRS, family: int = 5) -> Message:
    return Message(10 << 8 | kind, 0, 1, port, bytes([family, 0, 0, 0]) + b"".join(parts))


def link(kind: int, flags: int) -> Message:
    return Message(kind, 0, 0, 0, struct.pack("=BBHiII", 0, 0, 1, 4, flags, 0) + text(3, "rad0"))


def read(*messages: Message | None) -> list[KernelChange]:
    return changes_of(list(messages), {OURS})


def generation(port: int = THEIRS) -> Message:
    return nft(15, be32(1, 9), be32(2, 4711), text(3, "nft"), port=port)


def test_a_change_of_our_table_names_its_author() -> None:
    deleted = nft(2, text(1, "meshd"))
    assert read(nft(8, text(1, "meshd")), deleted, generation()) == [RulesetChanged("nft (pid 4711)")]
    assert read(deleted) == [RulesetChanged("")]


def test_other_tables_families_and_our_own_changes_are_not_told() -> None:
    assert read(nft(2, text(1, "site")), generation()) == []
    assert read(nft(2, text(1, "meshd"), family=1), generation()) == []
    assert read(nft(12, text(1, "meshd"), port=OURS), generation(OURS)) == []


def test_links_come_and_go() -> None:
    assert read(link(16, 0x1 | 0x10000)) == [LinkChanged("rad0", 4, exists=True, is_up=True)]
    assert read(link(16, 0x1)) == [LinkChanged("rad0", 4, exists=True, is_up=False)]
    assert read(link(17, 0x1 | 0x10000)) == [LinkChanged("rad0", 4, exists=False, is_up=False)]


def test_traffic_control_of_others_is_told() -> None:
    body = struct.pack("=BBHiIII", 0, 0, 0, 4, 0, 0, 0)
    assert read(Message(37, 0, 0, THEIRS, body), Message(37, 0, 0, THEIRS, body)) == [TrafficControlChanged(4)]
    assert read(Message(37, 0, 0, OURS, body)) == []


def test_lost_events_are_told() -> None:
    assert read(None) == [EventsLost()]


def test_short_messages_are_passed_over() -> None:
    assert read(Message(16, 0, 0, 0, b""), Message(37, 0, 0, THEIRS, b""), Message(10 << 8, 0, 0, THEIRS, b"")) == []


def test_monitor_opens_and_closes_without_privileges() -> None:
    with contextlib.closing(LinkMonitor()):
        pass
