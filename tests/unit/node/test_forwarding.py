# SPDX-License-Identifier: Apache-2.0
"""Forwarding (RFC 9171 section 5.4): queues by precedence, credit, links that come and go, refusals, postures."""

from collections.abc import Sequence

import pytest

from meshd.bundle.record import BundleRecord
from meshd.link.identity import LinkId
from meshd.link.settings import NeighbourSettings, Posture
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.forwarding import RETRY_MAX_S, RETRY_MIN_S
from meshd.node.state import REPORTS_PER_BATCH
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.contact_router import ContactRouter
from meshd.routing.decision import Contraindicated, Forward, LinkView
from tests.unit.node.playbook import (
    DPOP2,
    ENDED,
    HAS_IT,
    HOME,
    HOUR_MS,
    LAN,
    LAN_HOME,
    NEIGHBOURS,
    NO_ROOM,
    NODE,
    NOT_WANTED,
    SAT,
    STRANGER,
    Playbook,
)

BOTH_TO_HOME = (NeighbourSettings(HOME, "lan0", None), *NEIGHBOURS)


def queued(play: Playbook, link: object = SAT) -> tuple[int, int]:
    """(queued bundles, bundles in flight) of a link."""
    assert isinstance(link, type(SAT))
    return play.agent.forwarding.queued(link)[0], play.agent.forwarding.in_flight(link)


def test_waits_until_a_link_comes_up_and_has_room() -> None:
    play = Playbook()
    play.expect(play.received(LAN, "a"), "store put a")
    play.expect(play.stored("a"), "accept lan0>dpop2 a")
    assert play.state("a") == "waiting"
    play.expect(ev.LinkUp(SAT))
    assert play.state("a") == "queued"
    play.expect(ev.LinkWritable(SAT, 1), "send sat0>home a")
    assert play.state("a") == "in_flight"
    play.expect(play.acknowledged(SAT, "a"), "store delete a")
    assert play.state("a") is None
    assert play.kinds == ["bundle.forwarded"]


def test_goes_out_with_the_acknowledgement_when_the_link_is_ready() -> None:
    play = Playbook()
    play.up(SAT)
    assert play.take_in("a") == ["accept lan0>dpop2 a", "send sat0>home a"]


def test_bytes_go_along_while_they_are_in_memory_and_are_read_back_otherwise() -> None:
    play = Playbook()
    play.take_in("waited")
    play.up(SAT)
    play.handle(play.received(LAN, "at once"))
    play.handle(play.stored("at once"))
    (send,) = [command for command in play.commands if isinstance(command, cmd.SendBundles)]
    assert send.rows[0].inline == play.data["at once"]
    assert send.rows[0].header is not None
    play.expect(play.failed(SAT, ENDED, "at once"), "send sat0>home at once")
    (send,) = [command for command in play.commands if isinstance(command, cmd.SendBundles)]
    assert (send.rows[0].inline, send.rows[0].payload.segment, send.rows[0].header) == (None, 3, None)


def test_precedence_order_and_credit() -> None:
    play = Playbook()
    play.handle(ev.LinkUp(SAT))
    for name, precedence in (("routine", 1), ("deferred", 0), ("override", 5), ("flash", 4), ("priority", 2)):
        play.bundle(name, precedence=precedence)
        play.take_in(name)
    size_bytes = len(play.data["override"])
    play.expect(ev.LinkWritable(SAT, size_bytes + 1), "send sat0>home override flash")
    play.expect(ev.LinkWritable(SAT, 0))
    play.expect(ev.LinkWritable(SAT, 10_000), "send sat0>home priority routine deferred")
    assert queued(play) == (0, 5)


def test_credit_is_used_up_across_bundles() -> None:
    play = Playbook()
    play.bundle("a")
    play.up(SAT, credit_bytes=len(play.data["a"]))
    assert play.take_in("a")[-1] == "send sat0>home a"
    assert play.take_in("b") == ["accept lan0>dpop2 b"]


def test_what_expires_first_goes_first() -> None:
    play = Playbook()
    play.handle(ev.LinkUp(SAT))
    play.bundle("long", lifetime_ms=2 * HOUR_MS)
    play.bundle("short", lifetime_ms=HOUR_MS)
    play.take_in("long", "short")
    play.expect(ev.LinkWritable(SAT, 10_000), "send sat0>home short long")


def test_deleted_while_queued_is_withdrawn() -> None:
    play = Playbook()
    play.handle(ev.LinkUp(SAT))
    play.take_in("a", "b")
    play.expect(ev.BundleCancelled(play.id("a"), "uid 0"), "store delete a")
    assert queued(play) == (1, 0)
    play.expect(ev.LinkWritable(SAT, 10_000), "send sat0>home b")


def test_link_down_takes_back_what_is_queued_and_in_flight() -> None:
    play = Playbook()
    play.handle(ev.LinkUp(SAT))
    play.take_in("a", "b")
    play.expect(ev.LinkWritable(SAT, 1), "send sat0>home a")
    play.expect(ev.LinkDown(SAT, "gone"))
    assert (play.state("a"), play.state("b"), queued(play)) == ("waiting", "waiting", (0, 0))
    play.expect(play.failed(SAT, ENDED, "a"))
    play.expect(ev.LinkUp(SAT))
    play.expect(ev.LinkWritable(SAT, 10_000), "send sat0>home a b")


def test_credit_ends_with_the_session() -> None:
    play = Playbook()
    play.up(SAT)
    play.handle(ev.LinkDown(SAT, "gone"))
    play.handle(ev.LinkUp(SAT))
    assert play.take_in("a") == ["accept lan0>dpop2 a"]


def test_late_acknowledgement_after_the_link_went_down_counts() -> None:
    play = Playbook(neighbours=BOTH_TO_HOME)
    play.up(LAN_HOME, SAT)
    assert play.take_in("a")[-1] == "send lan0>home a"
    play.expect(ev.LinkDown(LAN_HOME, "gone"), "send sat0>home a")
    play.expect(play.acknowledged(LAN_HOME, "a"), "store delete a")
    assert queued(play) == (0, 0)
    play.expect(play.acknowledged(SAT, "a"))


def test_link_down_moves_to_the_other_link() -> None:
    play = Playbook(neighbours=BOTH_TO_HOME)
    play.up(LAN_HOME, SAT)
    play.take_in("a")
    play.expect(ev.LinkDown(LAN_HOME, "cut"), "send sat0>home a")


def test_a_bundle_never_goes_back_where_it_came_from() -> None:
    play = Playbook()
    play.up(LAN)
    play.bundle("a", DPOP2)
    assert play.take_in("a") == ["accept lan0>dpop2 a"]
    assert play.state("a") == "waiting"


def test_no_route_says_why() -> None:
    play = Playbook()
    play.bundle("a", STRANGER)
    play.take_in("a")
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert "no route to dtn://stranger/" in entry.reason


def test_session_ended_is_tried_again_at_once() -> None:
    play = Playbook()
    play.up(SAT)
    play.take_in("a")
    play.expect(play.failed(SAT, ENDED, "a"), "send sat0>home a")
    assert play.kinds == ["bundle.returned"]


def test_refusal_backs_off_and_never_gives_up() -> None:
    play = Playbook()
    play.up(SAT)
    play.bundle("a", lifetime_ms=300_000)
    play.take_in("a")
    pauses = []
    for _ in range(12):
        before = play.now
        play.expect(play.failed(SAT, NO_ROOM, "a"))
        assert play.state("a") == "waiting"
        while play.state("a") == "waiting":
            assert play.wake_at is not None
            play.now = play.wake_at
            play.handle(ev.TimerFired())
        pauses.append(round(play.now - before, 3))
        if play.state("a") is None:
            break
    assert pauses[:7] == [RETRY_MIN_S, 2.0, 4.0, 8.0, 16.0, 32.0, RETRY_MAX_S]
    assert play.state("a") is None, "it expires in the end"


def test_refusal_for_good_waits_longest_at_once() -> None:
    play = Playbook()
    play.up(SAT)
    play.take_in("a")
    play.handle(play.failed(SAT, NOT_WANTED, "a"))
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert entry.reason == "sat0>dtn://home/ did not take it: not wanted; again in 60 s"


def test_refused_while_the_link_went_silent_is_decided_anew() -> None:
    play = Playbook(neighbours=BOTH_TO_HOME)
    play.up(LAN_HOME, SAT)
    play.take_in("a")
    play.handle(ev.PosturesChanged({"lan0": Posture.RX_ONLY}))
    play.expect(play.failed(LAN_HOME, NO_ROOM, "a"), "send sat0>home a")


def test_two_refusals_due_at_the_same_time() -> None:
    play = Playbook()
    play.up(SAT)
    play.take_in("a", "b")
    play.expect(play.failed(SAT, NO_ROOM, "a", "b"))
    play.fire("send sat0>home a b")


def test_completed_refusal_counts_as_acknowledged() -> None:
    play = Playbook()
    play.up(SAT)
    play.take_in("a")
    play.expect(play.failed(SAT, HAS_IT, "a"), "store delete a")


def test_retry_of_what_is_gone_or_on_its_way_does_nothing() -> None:
    play = Playbook()
    play.up(SAT)
    play.take_in("gone", "sent")
    play.handle(play.failed(SAT, NO_ROOM, "gone", "sent"))
    play.handle(ev.BundleCancelled(play.id("gone"), "uid 0"))
    play.expect(ev.LinkUp(SAT), "send sat0>home sent")
    play.fire()
    assert play.state("sent") == "in_flight"


def test_posture_holds_back_what_is_queued_and_lets_go_later() -> None:
    play = Playbook()
    play.up(SAT)
    play.handle(ev.PosturesChanged({"sat0": Posture.RX_ONLY}))
    assert play.take_in("a") == ["accept lan0>dpop2 a"]
    assert play.state("a") == "waiting"
    play.expect(ev.LinkWritable(SAT, 10_000))
    play.expect(ev.PosturesChanged({}), "send sat0>home a")


def test_posture_moves_what_is_queued_to_the_other_bearer() -> None:
    play = Playbook(neighbours=BOTH_TO_HOME)
    play.handle(ev.LinkUp(LAN_HOME))
    play.handle(ev.LinkUp(SAT))
    play.take_in("a")
    assert play.agent.forwarding.queued(LAN_HOME) == (1, len(play.data["a"]))
    play.handle(ev.PosturesChanged({"lan0": Posture.RX_ONLY}))
    assert (queued(play, LAN_HOME), queued(play, SAT)) == ((0, 0), (1, 0))


def test_nothing_is_handed_to_a_silent_link_even_with_credit() -> None:
    play = Playbook()
    play.handle(ev.LinkUp(SAT))
    play.take_in("a")
    play.agent.links.set_postures({"sat0": Posture.RX_ONLY})
    play.expect(ev.LinkWritable(SAT, 10_000))
    assert play.state("a") == "queued"


def test_expiry_while_queued_and_while_in_flight() -> None:
    play = Playbook()
    play.handle(ev.LinkUp(SAT))
    for name in ("a", "b"):
        play.bundle(name, lifetime_ms=1000)
    play.take_in("a", "b")
    play.expect(ev.LinkWritable(SAT, 1), "send sat0>home a")
    play.fire("store delete a b")
    assert queued(play) == (0, 0)
    play.expect(play.acknowledged(SAT, "a"))


def test_large_batches_are_reported_as_a_whole() -> None:
    play = Playbook()
    play.up(SAT)
    names = [f"n{number}" for number in range(REPORTS_PER_BATCH + 1)]
    play.take_in(*names)
    play.handle(play.failed(SAT, ENDED, *names))
    assert play.kinds == ["bundles.returned"]
    play.handle(play.acknowledged(SAT, *names))
    assert play.kinds == ["bundles.forwarded"]
    link = play.agent.links.get(SAT)
    assert link is not None
    assert (link.sent_bundles, link.sent_bytes) == (len(names), sum(len(play.data[name]) for name in names))


def test_acknowledgement_of_a_link_that_nobody_knows_any_more() -> None:
    play = Playbook(neighbours=(NeighbourSettings(DPOP2, "lan0", None),))
    play.up(SAT)
    play.take_in("a")
    play.handle(ev.LinkDown(SAT, "gone for good"))
    assert play.agent.links.get(SAT) is None
    play.expect(play.acknowledged(SAT, "a"), "store delete a")


class LaterRouter(ContactRouter):
    """Says that it knows more at a certain time."""

    def __init__(self, wake_at: float) -> None:
        super().__init__(NODE, ContactPlan())
        self.wake_at = wake_at

    def choose_next_hops(self, record: BundleRecord, view: LinkView, now: float) -> Forward | Contraindicated:
        """Not yet, or over the best link."""
        links: Sequence[object] = view.usable_links(record.destination.node)
        if now < self.wake_at or not links:
            return Contraindicated("the contact has not begun", self.wake_at)
        return Forward(tuple(view.usable_links(record.destination.node)))


def test_contraindicated_until_a_time_is_asked_again_then() -> None:
    play = Playbook()
    play.up(SAT)
    play.agent.forwarding.router = LaterRouter(play.now + 7)
    assert play.take_in("a") == ["accept lan0>dpop2 a"]
    assert play.wake_at == play.now + 7
    play.fire("send sat0>home a")


@pytest.mark.parametrize("links", [(LAN, SAT), (SAT, LAN)])
def test_links_are_served_in_the_order_in_which_something_changed(links: tuple[LinkId, LinkId]) -> None:
    play = Playbook()
    play.up(LAN, SAT)
    play.handle(ev.PosturesChanged({"lan0": Posture.RX_ONLY, "sat0": Posture.RX_ONLY}))
    for link in links:
        play.bundle(link.bearer, link.neighbour, source=STRANGER)
        play.take_in(link.bearer, link=LAN_HOME if link is LAN else LAN)
    names = {LAN: "send lan0>dpop2 lan0", SAT: "send sat0>home sat0"}
    play.expect(ev.PosturesChanged({}), *[names[link] for link in links])
