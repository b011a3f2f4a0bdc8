# SPDX-License-Identifier: Apache-2.0
"""What this node has just made leaves while it is written; everything else, and every promise, waits for the disk."""

from meshd.bundle.eid import parse_eid
from meshd.node import commands as cmd
from meshd.node import events as ev
from tests.unit.node.playbook import HOME_INBOX, LAN, SAT, Playbook

HERE = parse_eid("dtn://dpop1/inbox")
ECHO = parse_eid("dtn://dpop1/echo")


def begun(play: Playbook) -> str:
    """The store is about to write the bundle that the last event has put; its name."""
    (write,) = [command for command in play.commands if isinstance(command, cmd.WriteStore)]
    (record,) = write.puts
    play.handle(ev.StoringBegun(record.id))
    return play.name_of(record.id)


def is_sent(play: Playbook) -> bool:
    """By the last event."""
    return any(isinstance(command, cmd.SendBundles) for command in play.commands)


def is_accepted(play: Playbook) -> bool:
    """The application was told by the last event that its message is stored."""
    return any(isinstance(command, cmd.SubmissionAccepted) for command in play.commands)


def test_a_message_leaves_at_once_and_once_but_is_promised_only_when_it_is_durable() -> None:
    play = Playbook()
    play.up(SAT)
    play.handle(play.submitted())
    name = begun(play)
    assert is_sent(play)
    assert not is_accepted(play)
    play.handle(play.stored(name))
    assert not is_sent(play)
    assert is_accepted(play)
    play.handle(play.acknowledged(SAT, name))
    assert play.state(name) is None


def test_what_was_not_stored_is_refused_and_its_acknowledgement_says_nothing() -> None:
    play = Playbook()
    play.up(SAT)
    play.handle(play.submitted())
    name = begun(play)
    play.handle(play.not_stored(name, reason="I/O error"))
    (refusal,) = [command for command in play.commands if isinstance(command, cmd.SubmissionRefused)]
    assert "may have been sent" in refusal.text
    assert play.state(name) is None
    assert play.handle(play.acknowledged(SAT, name)) == []


def test_without_a_link_it_waits_and_goes_later() -> None:
    play = Playbook()
    play.handle(play.submitted())
    name = begun(play)
    assert not is_sent(play)
    play.handle(play.stored(name))
    assert is_accepted(play)
    play.up(SAT)
    assert is_sent(play)


def test_a_part_of_a_larger_message_waits() -> None:
    play = Playbook()
    play.up(SAT)
    play.handle(play.submitted(data=bytes(10), last=False))
    begun(play)
    assert not is_sent(play)


def test_what_has_to_be_cut_waits() -> None:
    play = Playbook()
    play.handle(ev.LinkUp(SAT, 100))
    play.handle(ev.LinkWritable(SAT, 10**6))
    play.handle(play.submitted(data=bytes(1000), destination=HOME_INBOX))
    begun(play)
    assert not any(isinstance(command, cmd.FragmentBundle | cmd.SendBundles) for command in play.commands)


def test_a_message_to_this_node_waits() -> None:
    play = Playbook()
    play.handle(ev.ReceiverAttached(1, HERE))
    play.handle(play.submitted(destination=HERE))
    name = begun(play)
    assert not any(isinstance(command, cmd.DeliverMessage) for command in play.commands)
    play.handle(play.stored(name))
    assert any(isinstance(command, cmd.DeliverMessage) for command in play.commands)


def test_what_came_from_elsewhere_waits() -> None:
    play = Playbook()
    play.up(LAN, SAT)
    play.handle(play.received(LAN, "a"))
    begun(play)
    assert not is_sent(play)
    play.handle(play.stored("a"))
    assert is_sent(play)


def test_an_echo_leaves_at_once_and_its_request_is_acknowledged_when_it_is_durable() -> None:
    play = Playbook()
    play.up(LAN)
    play.bundle("ping", ECHO)
    play.handle(play.received(LAN, "ping"))
    name = begun(play)
    assert is_sent(play)
    assert not any(isinstance(command, cmd.AcceptTransfers) for command in play.commands)
    play.handle(play.stored(name))
    assert any(isinstance(command, cmd.AcceptTransfers) for command in play.commands)
    assert not is_sent(play)
