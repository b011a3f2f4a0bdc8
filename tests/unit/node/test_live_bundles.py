# SPDX-License-Identifier: Apache-2.0
"""Live bundles at a node on the way: newer ones drop older ones, what is late or too much for a link is not sent."""

import pytest

from meshd.bundle.eid import parse_eid
from meshd.bundle.precedence import Precedence
from meshd.bundle.scan import scan_untrusted
from meshd.bundle.supersession import Supersession
from meshd.link.identity import LinkId
from meshd.link.thinning import DOWN_S
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.live_links import LATE, THINNED
from tests.unit.node.playbook import DPOP2, HOME_INBOX, LAN, NODE, SAT, Playbook
from tests.unit.node.test_groups import DPOP3, GROUP, LAN3, group_play

KEY = b"stream 7"
LIFETIME_MS = 1250
TOO_LATE = ev.RefusalReason(completed=False, retriable=True, session_ended=False, text="too late", is_late=True)
CUT_S = 0.1
TIER_BYTES = (400, 3000, 20_000)
"""Of each cut: 1.9 Mbit/s in all."""


def live(play: Playbook, name: str, sequence: int, tier: int = 0, payload: bytes = b"x", key: bytes = KEY) -> None:
    play.bundle(
        name,
        lifetime_ms=LIFETIME_MS,
        precedence=Precedence.PRIORITY,
        payload=payload,
        supersession=Supersession(key, sequence, tier),
    )


def bring(play: Playbook, name: str) -> list[str]:
    """It arrives and is stored."""
    play.handle(play.received(LAN, name))
    return play.handle(play.stored(name))


def reasons(play: Playbook) -> list[object]:
    return [report.fields["reason"] for report in play.reports if report.kind == "bundle.deleted"]


def test_the_block_travels_and_is_kept() -> None:
    play = Playbook()
    live(play, "a", 5, 2)
    assert scan_untrusted(play.data["a"]).supersession == Supersession(KEY, 5, 2)
    play.handle(play.received(LAN, "a"))
    (write,) = [each for each in play.commands if isinstance(each, cmd.WriteStore)]
    assert write.puts[0].supersession == Supersession(KEY, 5, 2)


def test_a_newer_one_drops_those_that_wait() -> None:
    play = Playbook()
    live(play, "old", 5)
    live(play, "same", 5)
    live(play, "other key", 5, key=b"other")
    live(play, "new", 6)
    for name in ("old", "same", "other key"):
        bring(play, name)
    assert play.state("old") == play.state("same") == "waiting"
    bring(play, "new")
    assert reasons(play) == ["superseded by a newer one"] * 2
    assert [play.state(name) for name in ("old", "same", "other key", "new")] == [None, None, "waiting", "waiting"]


def test_one_that_comes_after_its_successor_is_dropped_and_acknowledged() -> None:
    play = Playbook()
    live(play, "new", 6)
    live(play, "old", 5)
    bring(play, "new")
    lines = bring(play, "old")
    assert any(line.startswith("accept lan0>dpop2 old") for line in lines)
    assert play.state("old") is None
    assert reasons(play) == ["superseded by a newer one"]


def test_what_is_under_way_is_left_alone() -> None:
    play = Playbook()
    play.up(SAT)
    live(play, "old", 5)
    live(play, "new", 6)
    assert "send sat0>home old" in bring(play, "old")
    bring(play, "new")
    assert play.state("old") == "in_flight"


def test_when_all_are_gone_any_sequence_is_taken() -> None:
    play = Playbook()
    play.up(SAT)
    live(play, "new", 6)
    bring(play, "new")
    play.handle(play.acknowledged(SAT, "new"))
    live(play, "old", 5)
    assert "send sat0>home old" in bring(play, "old")


def test_after_a_restart_newer_ones_drop_what_the_store_kept() -> None:
    play = Playbook()
    for name, sequence in (("old", 5), ("older", 4), ("new", 6)):
        live(play, name, sequence)
    play.handle(play.received(LAN, "old", "older"))
    (write,) = [each for each in play.commands if isinstance(each, cmd.WriteStore)]
    again = Playbook()
    again.data = play.data
    for name in play.data:
        again.name(name, play.id(name))
    again.handle(ev.StoreRecovered(write.puts, [(each.id, each.expiry_ms) for each in write.puts], {}))
    assert reasons(again) == ["superseded by a newer one"]
    bring(again, "new")
    assert reasons(again) == ["superseded by a newer one"]
    assert again.agent.bundle_count == 1
    assert again.state("new") == "waiting"


def test_a_bundle_that_would_be_late_is_not_sent() -> None:
    play = Playbook()
    play.up(SAT)
    live(play, "slow", 1, payload=bytes(200_000))  # takes 1.6 s of the link, and has 1.25 s
    lines = bring(play, "slow")
    assert not any(line.startswith("send") for line in lines)
    assert reasons(play) == [LATE]
    assert play.state("slow") is None


def test_a_late_copy_to_a_group_is_left_out_on_that_link_alone() -> None:
    play = group_play(NODE, DPOP2, DPOP3, parse_eid("dtn://home/"))
    play.up(LAN, SAT, LAN3)
    play.bundle("a", GROUP, lifetime_ms=LIFETIME_MS, payload=bytes(200_000), supersession=Supersession(KEY, 1, 0))
    lines = bring(play, "a")
    assert "send lan0>dpop3 a" in lines
    assert not any(line.startswith("send sat0") for line in lines)
    play.handle(play.acknowledged(LAN3, "a"))
    entry = play.agent.entry(play.id("a"))
    assert entry is not None  # an application here has still to take it
    assert entry.copies is not None
    assert entry.copies.left == set()


def test_a_link_that_keeps_the_order_is_handed_little_so_that_newer_ones_overtake() -> None:
    play = Playbook()
    play.up(SAT)
    names = [str(number) for number in range(9)]
    for name in names:
        live(play, name, 1, 2, bytes(16_000))
    first = [line.split()[-1] for name in names for line in bring(play, name) if line.startswith("send")]
    assert first == names[:3]  # a quarter of a second at 1 Mbit/s
    lines = play.handle(play.acknowledged(SAT, *first))
    assert next(line for line in lines if line.startswith("send")).split()[2:] == ["8", "7", "6"]


def test_what_a_radio_gives_up_as_late_is_not_tried_again() -> None:
    play = group_play(NODE, DPOP2, DPOP3, parse_eid("dtn://home/"))
    play.up(SAT, LAN3)
    play.bundle("a", GROUP, lifetime_ms=LIFETIME_MS, supersession=Supersession(KEY, 1, 0))
    bring(play, "a")
    lines = play.handle(play.failed(SAT, TOO_LATE, "a"))
    play.later(1.0)
    play.handle(ev.TimerFired())
    assert not any(line.startswith("send") for line in lines)
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert entry.copies is not None
    assert {link.neighbour for link in entry.copies.links} == {DPOP3}


class Feed:
    """Cuts of a stream that come ten times a second, and a link that pulls so many bytes a second."""

    def __init__(self, play: Playbook) -> None:
        self.play = play
        self.cut = 0
        self.budget_bytes = 0.0
        self.sent: list[str] = []
        self.thinned = 0

    def run(self, seconds: float, link: LinkId, bytes_per_s: float) -> None:
        play = self.play
        for _ in range(round(seconds / CUT_S)):
            self.cut += 1
            for tier, size_bytes in enumerate(TIER_BYTES):
                name = f"{self.cut}.{tier}"
                # One key for all of a period, as streams have it: nothing here supersedes anything.
                live(play, name, 1, tier, bytes(size_bytes))
                self._note(bring(play, name))
            self.budget_bytes = min(self.budget_bytes, 0.0) + bytes_per_s * CUT_S
            self._note(play.handle(ev.LinkWritable(link, max(int(self.budget_bytes), 0))))
            play.later(CUT_S)
            while play.wake_at is not None and play.wake_at <= play.now:
                play.handle(ev.TimerFired())

    def _note(self, lines: list[str]) -> None:
        names = [word for line in lines if line.startswith("send") for word in line.split()[2:]]
        self.sent += names
        self.thinned += reasons(self.play).count(THINNED)
        for name in names:
            self.budget_bytes -= TIER_BYTES[int(name.partition(".")[2])]
            self.play.handle(self.play.acknowledged(SAT, name))

    def tiers_sent(self) -> set[str]:
        sent, self.sent = self.sent, []
        return {name.partition(".")[2] for name in sent}


@pytest.fixture
def feed() -> Feed:
    play = Playbook(quota_bytes=100_000_000, bundles_max=100_000, known_max=100_000)
    play.up(SAT)
    play.handle(ev.LinkWritable(SAT, 0))
    return Feed(play)


def test_a_link_that_is_too_slow_loses_a_tier_within_seconds_and_gets_it_back(feed: Feed) -> None:
    feed.run(10, SAT, 1e6)
    assert feed.tiers_sent() == {"0", "1", "2"}
    feed.run(DOWN_S + 4, SAT, 50_000)
    feed.tiers_sent()
    feed.run(3, SAT, 50_000)
    assert feed.tiers_sent() == {"0", "1"}
    assert feed.thinned
    feed.run(30, SAT, 1e6)
    feed.tiers_sent()
    feed.run(2, SAT, 1e6)
    assert feed.tiers_sent() == {"0", "1", "2"}


def test_what_is_urgent_goes_before_the_stream(feed: Feed) -> None:
    play = feed.play
    feed.run(5, SAT, 50_000)
    play.bundle("urgent", HOME_INBOX, precedence=Precedence.IMMEDIATE)
    bring(play, "urgent")
    lines = play.handle(ev.LinkWritable(SAT, 100))
    assert [line for line in lines if line.startswith("send")] == ["send sat0>home urgent"]
