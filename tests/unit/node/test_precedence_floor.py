# SPDX-License-Identifier: Apache-2.0
"""A restricted bearer carries bundles of a precedence and above; the others wait, or go another way."""

from meshd.bundle.precedence import Precedence
from meshd.link.settings import NeighbourSettings, Posture
from meshd.node import events as ev
from tests.unit.node.playbook import HOME, LAN_HOME, NEIGHBOURS, SAT, Playbook

RESTRICTED = ev.PosturesChanged({"sat0": Posture.RESTRICTED}, floors={"sat0": Precedence.IMMEDIATE})

BOTH_TO_HOME = (NeighbourSettings(HOME, "lan0", None), *NEIGHBOURS)


def reason(play: Playbook, name: str) -> str:
    entry = play.agent.entry(play.id(name))
    assert entry is not None
    return entry.reason


def test_bundles_below_the_floor_wait_until_it_is_gone() -> None:
    play = Playbook()
    play.up(SAT)
    play.handle(RESTRICTED)
    low = play.submit(precedence=Precedence.PRIORITY)
    assert play.state(low) == "waiting"
    assert "emission control holds back bundles of this precedence" in reason(play, low)
    high = play.submit(precedence=Precedence.IMMEDIATE)
    assert play.state(high) == "in_flight"
    play.expect(ev.PosturesChanged({"sat0": Posture.OPEN}), f"send sat0>home {low}")


def test_what_is_queued_when_the_restriction_begins_waits() -> None:
    play = Playbook()
    play.up(SAT, credit_bytes=0)
    name = play.submit(precedence=Precedence.ROUTINE)
    assert play.state(name) == "queued"
    play.handle(RESTRICTED)
    assert play.state(name) == "waiting"
    assert play.handle(ev.LinkWritable(SAT, 1_000_000)) == []


def test_another_bearer_carries_them() -> None:
    play = Playbook(neighbours=BOTH_TO_HOME)
    play.up(SAT, LAN_HOME)
    play.handle(RESTRICTED)
    play.handle(play.submitted(precedence=Precedence.ROUTINE))
    assert "send lan0>home own0" in play.handle(play.stored("own0"))
