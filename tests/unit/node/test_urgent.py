# SPDX-License-Identifier: Apache-2.0
"""FLASH and above does not wait for a link's credit, within a limit; everything else does."""

from collections.abc import Callable

import pytest

from meshd.node import commands as cmd
from meshd.node import events as ev
from tests.unit.node.playbook import SAT, Playbook


def urgency(play: Playbook) -> list[bool]:
    return [command.is_urgent for command in play.commands if isinstance(command, cmd.SendBundles)]


def make_exhausted() -> Playbook:
    """A link whose credit is used up by a bundle under way."""
    play = Playbook()
    play.bundle("bulk")
    play.up(SAT, credit_bytes=1)
    assert play.take_in("bulk")[-1] == "send sat0>home bulk"
    assert urgency(play) == [False]
    return play


@pytest.mark.parametrize(("precedence", "goes"), [(5, True), (4, True), (3, False), (1, False)])
def test_only_flash_and_above_goes_without_credit(precedence: int, goes: bool) -> None:
    play = make_exhausted()
    play.bundle("next", precedence=precedence)
    assert ("send sat0>home next" in play.take_in("next")) == goes
    assert urgency(play) == [True] * goes


def test_a_link_that_takes_nothing_at_all_gets_no_flash_either() -> None:
    play = make_exhausted()
    play.handle(ev.LinkWritable(SAT, 0))
    play.bundle("flash", precedence=4)
    assert play.take_in("flash") == ["accept lan0>dpop2 flash"]


def test_there_is_a_limit_until_the_link_has_credit_again(set_limit: Callable[[str, int], None]) -> None:
    set_limit("meshd.node.link_queues.URGENT_MAX_BYTES", 1)
    play = make_exhausted()
    play.bundle("a", precedence=4)
    play.bundle("b", precedence=4)
    assert "send sat0>home a" in play.take_in("a")
    assert "send sat0>home b" not in play.take_in("b")
    play.expect(ev.LinkWritable(SAT, 1), "send sat0>home b")
