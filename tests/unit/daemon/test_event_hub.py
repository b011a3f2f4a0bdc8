# SPDX-License-Identifier: Apache-2.0
"""The event hub: filters, replay, and what a slow reader is told that it lost."""

from itertools import count
from typing import Any

from meshd.daemon.control_peer import Peer
from meshd.daemon.event_hub import EventHub


class Reader:
    """A session with room for so many notifications."""

    def __init__(self, room: int = 1000) -> None:
        self.peer = Peer(1, 0, 0, frozenset())
        self.id = 1
        self.room = room
        self.got: list[dict[str, Any]] = []

    def notify(self, method: str, params: dict[str, Any]) -> bool:
        assert method == "event"
        if len(self.got) >= self.room:
            return False
        self.got.append(params)
        return True

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.got]


def hub(kept_max: int = 1024) -> EventHub:
    times = count(1000)
    return EventHub(lambda: next(times), kept_max)


def test_an_event_reaches_who_wants_it() -> None:
    events, everything, links = hub(), Reader(), Reader()
    events.subscribe(everything, None, 0)
    events.subscribe(links, ["link"], 0)
    events.publish("link.up", {"link": "satcom0"})
    events.publish("linkage", {})
    events.publish("link", {})
    assert everything.kinds() == ["link.up", "linkage", "link"]
    assert links.kinds() == ["link.up", "link"]
    assert links.got[0] == {"seq": 1, "time_ms": 1000, "kind": "link.up", "fields": {"link": "satcom0"}, "lost": 0}


def test_replay_gives_the_last_ones_that_fit() -> None:
    events, reader = hub(), Reader()
    for number in range(5):
        events.publish("a.x" if number % 2 else "b", {})
    events.subscribe(reader, ["b"], 2)
    assert [event["seq"] for event in reader.got] == [3, 5]


def test_the_ring_is_bounded() -> None:
    events, reader = hub(kept_max=3), Reader()
    for _ in range(10):
        events.publish("a", {})
    events.subscribe(reader, None, 100)
    assert [event["seq"] for event in reader.got] == [8, 9, 10]


def test_a_slow_reader_is_told_what_it_lost() -> None:
    events, slow, quick = hub(), Reader(room=1), Reader()
    events.subscribe(slow, None, 0)
    events.subscribe(quick, None, 0)
    for _ in range(4):
        events.publish("a", {})
    slow.room = 10
    events.publish("a", {})
    events.publish("a", {})
    assert [(event["seq"], event["lost"]) for event in slow.got] == [(1, 0), (5, 3), (6, 0)]
    assert [event["lost"] for event in quick.got] == [0] * 6


def test_a_closed_session_gets_nothing_more() -> None:
    events, reader = hub(), Reader()
    events.subscribe(reader, None, 0)
    events.unsubscribe(reader)
    events.unsubscribe(reader)
    events.publish("a", {})
    assert reader.got == []


def test_a_second_subscription_replaces_the_first() -> None:
    events, reader = hub(), Reader()
    events.subscribe(reader, None, 0)
    events.subscribe(reader, ["b"], 0)
    events.publish("a", {})
    assert reader.got == []
