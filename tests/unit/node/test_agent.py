# SPDX-License-Identifier: Apache-2.0
"""The agent: recovery, the clock, expiry, cancelling, damage, the one timer, and reloading."""

from collections.abc import Sequence

import msgspec
import pytest

from meshd.bundle.admin_record import Assertion
from meshd.bundle.dtn_time import SEQUENCE_BLOCK, CreationClock
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef, bundle_id_text
from meshd.bundle.scan import scan_untrusted
from meshd.link.settings import NeighbourSettings
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.agent import KNOWN_SWEEP_S
from meshd.node.sent_messages import NOTE_PREFIX, Message
from meshd.node.state import CREATION_NOTE
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.contact_router import ContactRouter
from meshd.routing.settings import RouteSettings
from tests.unit.node.playbook import (
    DPOP2,
    HOME,
    HOME_INBOX,
    HOUR_MS,
    INBOX,
    LAN,
    NO_ROOM,
    NODE,
    PART_BYTES,
    SAT,
    START_S,
    STRANGER,
    UTC_OFFSET_MS,
    Playbook,
    node_settings,
)

FULL = bytes(PART_BYTES)


class Disk:
    """What a store would give back of what an agent wanted kept."""

    def __init__(self) -> None:
        self.records: dict[BundleId, BundleRecord] = {}
        self.known: dict[BundleId, int] = {}
        self.notes: dict[str, bytes] = {}

    def take(self, commands: Sequence[cmd.Command]) -> None:
        """Make one event's group durable."""
        for group in commands:
            if not isinstance(group, cmd.WriteStore):
                continue
            for record in group.puts:
                payload = PayloadRef(3, 70, record.size_bytes)
                self.records[record.id] = msgspec.structs.replace(record, payload=payload)
            for row in group.deletes:
                self.records.pop(row.id, None)
                self.known[row.id] = row.remember_until_ms
            for bundle in group.releases:
                self.records[bundle] = msgspec.structs.replace(self.records[bundle], held=False)
            self.notes.update(group.notes)

    def recovered(self) -> ev.StoreRecovered:
        """What the next start finds."""
        records = [record for record in self.records.values() if not record.held]
        known = self.known | {record.id: record.expiry_ms for record in records}
        notes = {key: value for key, value in self.notes.items() if value}
        return ev.StoreRecovered(records, list(known.items()), notes)


class DurablePlaybook(Playbook):
    """A playbook whose every group becomes durable at once; the answers are still the script's."""

    def __init__(self, **changes: object) -> None:
        self.disk = Disk()
        super().__init__(**changes)  # type: ignore[arg-type]

    def handle(self, event: ev.Event) -> list[str]:
        """As the base, and keep what is wanted kept."""
        lines = super().handle(event)
        self.disk.take(self.commands)
        return lines

    def restart(self) -> Playbook:
        """Crash, and begin a new life a little later on the same disk."""
        later = Playbook()
        for name, bundle in self._ids.items():
            later.name(name, bundle)
        later.data, later.records = self.data, self.records
        later.later(self.now + 1 - later.now)
        return later


# Recovery


def test_recovery_brings_back_foreign_own_and_local_bundles() -> None:
    play = DurablePlaybook()
    play.take_in("foreign")
    play.bundle("local", INBOX)
    play.take_in("local")
    play.submit()
    again = play.restart()
    again.expect(play.disk.recovered())
    assert [again.state(name) for name in ("foreign", "local", "own0")] == ["waiting", "for_delivery", "waiting"]
    assert again.agent.stored_bytes == play.agent.stored_bytes
    again.expect(ev.ReceiverAttached(1, INBOX), "deliver 1 local")
    again.expect(ev.LinkUp(SAT))
    again.expect(ev.LinkWritable(SAT, 10_000), "send sat0>home foreign own0")
    rows = [row for command in again.commands if isinstance(command, cmd.SendBundles) for row in command.rows]
    assert [(row.is_own, row.inline) for row in rows] == [(False, None), (True, None)]
    again.expect(again.acknowledged(SAT, "own0"), "store delete own0; note own0=forwarded")


def test_recovery_remembers_what_was_here() -> None:
    play = DurablePlaybook()
    play.up(SAT)
    play.take_in("a", "b")
    play.handle(play.acknowledged(SAT, "a"))
    again = play.restart()
    again.handle(play.disk.recovered())
    assert again.agent.known_count == 2
    again.expect(again.received(LAN, "b"), "accept lan0>dpop2 b")
    again.handle(again.received(LAN, "a"))
    assert again.agent.known_count == 3, "the store does not know whether it was settled: it is taken again"


def test_crash_before_the_release_forgets_the_held_parts() -> None:
    play = DurablePlaybook()
    play.handle(play.submitted(data=FULL, last=False))
    play.handle(play.stored("own0"))
    again = play.restart()
    again.expect(play.disk.recovered())
    assert again.agent.entries() == []


def test_crash_after_the_release_keeps_the_whole_message() -> None:
    play = DurablePlaybook()
    play.handle(play.submitted(data=FULL, last=False))
    play.handle(play.submitted(data=b"end"))
    again = play.restart()
    again.handle(play.disk.recovered())
    assert again.up(SAT) == ["send sat0>home own0 own1"]
    assert again.message("own0").state.value == "queued"
    again.expect(again.acknowledged(SAT, "own0"), "store delete own0")
    again.expect(again.acknowledged(SAT, "own1"), "store delete own1; note own0=forwarded")


def test_sequence_numbers_go_on_behind_the_reserved_ones() -> None:
    play = DurablePlaybook()
    play.submit()
    again = play.restart()
    again.handle(play.disk.recovered())
    assert again.submit() == f"own{SEQUENCE_BLOCK}"


def test_what_expired_while_the_node_was_down_is_deleted() -> None:
    play = DurablePlaybook()
    play.submit(lifetime_ms=HOUR_MS)
    play.take_in("foreign")
    again = play.restart()
    again.later(2 * HOUR_MS / 1000)
    again.expect(play.disk.recovered(), "store delete own0 foreign; note own0=expired")
    assert again.message("own0").reason == "lifetime expired"
    assert again.agent.entries() == []


def test_delivered_after_a_restart_still_counts() -> None:
    play = DurablePlaybook()
    play.up(SAT)
    play.submit()
    play.handle(play.acknowledged(SAT, "own0"))
    again = play.restart()
    again.handle(play.disk.recovered())
    again.report_of("r", "own0", delivered=Assertion(is_asserted=True))
    again.expect(again.received(SAT, "r"), "store put r; note own0=delivered")


def test_messages_come_back_oldest_first() -> None:
    notes = {}
    for created_ms in (3, 1, 2):
        text = f"dtn://dpop1/inbox@{created_ms}.0"
        message = Message(text, "dtn://home/inbox", "dtn://home/", 1, 5, 1, created_ms, 10**15, text)
        notes[NOTE_PREFIX + text] = msgspec.msgpack.encode(message)
    play = Playbook()
    play.handle(ev.StoreRecovered([], [], notes))
    assert [message.created_ms for message in play.agent.messages.all()] == [1, 2, 3]


# The clock


def test_clock_step_forward_expires_what_its_creation_time_says_and_keeps_what_goes_by_age() -> None:
    play = Playbook()
    play.bundle("dated")
    play.bundle("aged", time_ms=0, age_ms=0)
    play.take_in("dated", "aged")
    play.expect(ev.ClockStepped(UTC_OFFSET_MS + 2 * HOUR_MS, 1000), "store delete dated")
    assert play.kinds == ["bundle.deleted"]
    entry = play.agent.entry(play.id("aged"))
    assert entry is not None
    assert entry.record.expiry_ms - play.now_ms == HOUR_MS
    assert entry.record.received_ms == play.now_ms
    play.later(HOUR_MS / 1000 - 1)
    play.expect(ev.TimerFired())
    play.fire("store delete aged")


def test_clock_step_backward_keeps_ages_right() -> None:
    play = Playbook()
    play.bundle("aged", time_ms=0, age_ms=0)
    play.take_in("aged")
    play.later(10)
    play.expect(ev.ClockStepped(UTC_OFFSET_MS - HOUR_MS, 1000))
    entry = play.agent.entry(play.id("aged"))
    assert entry is not None
    assert play.now_ms - entry.record.received_ms == 10_000
    assert entry.record.expiry_ms - play.now_ms == HOUR_MS - 10_000


def test_clock_step_does_not_make_the_node_forget_what_it_has() -> None:
    play = Playbook()
    play.bundle("aged", time_ms=0, age_ms=0)
    play.bundle("gone", INBOX, time_ms=0, age_ms=0)
    play.take_in("aged", "gone")
    play.handle(ev.ReceiverAttached(1, INBOX))
    play.handle(play.confirmed(1, "gone"))
    play.handle(ev.ClockStepped(UTC_OFFSET_MS + 365 * 24 * HOUR_MS, 1000))
    play.later(2 * KNOWN_SWEEP_S)
    play.handle(ev.TimerFired())
    play.expect(play.received(LAN, "aged", "gone"), "accept lan0>dpop2 aged gone")


def test_clock_step_of_nothing_and_of_an_empty_node() -> None:
    play = Playbook()
    play.expect(ev.ClockStepped(UTC_OFFSET_MS, None))
    play.expect(ev.ClockStepped(UTC_OFFSET_MS + 5, None))
    assert play.now_ms == UTC_OFFSET_MS + 5 + int(play.now * 1000)


def test_own_message_by_age_survives_a_step() -> None:
    play = Playbook(clock_trusted=False)
    play.submit()
    play.expect(ev.ClockStepped(UTC_OFFSET_MS + 10 * HOUR_MS, None))
    assert play.state("own0") == "waiting"
    play.later(60)
    play.expect(ev.TimerFired())
    assert play.state("own0") == "waiting"


# Expiry and the timer


def test_timer_names_the_first_expiry() -> None:
    play = Playbook()
    play.bundle("a", lifetime_ms=30_000)
    play.bundle("b", lifetime_ms=20_000)
    play.handle(play.received(LAN, "a"))
    assert play.wake_at == pytest.approx(play.now + 30, abs=0.01)
    play.handle(play.received(LAN, "b"))
    assert play.wake_at == pytest.approx(play.now + 20, abs=0.01)
    play.handle(play.stored("a", "b"))
    play.fire("store delete b")
    play.fire("store delete a")


def test_timer_is_not_set_again_without_need() -> None:
    play = Playbook()
    play.take_in("a")
    play.handle(ev.LinkUp(LAN))
    assert not any(isinstance(command, cmd.WakeAt) for command in play.commands)


def test_idle_node_has_no_timer() -> None:
    play = Playbook()
    play.handle(ev.LinkUp(LAN))
    assert play.wake_at is None


def test_a_timer_that_fires_early_is_set_again() -> None:
    play = Playbook()
    play.take_in("a")
    first = play.wake_at
    play.expect(ev.TimerFired())
    assert [command for command in play.commands if isinstance(command, cmd.WakeAt)] == [cmd.WakeAt(first)]


def test_expired_ids_are_forgotten_by_the_sweep() -> None:
    play = Playbook()
    play.bundle("a", lifetime_ms=1000)
    play.take_in("a")
    play.fire("store delete a")
    assert play.agent.known_count == 1
    while play.wake_at is not None:
        play.fire()
    assert play.agent.known_count == 0
    assert play.now - START_S <= 3 * KNOWN_SWEEP_S


def test_own_message_that_expires_says_so_once() -> None:
    play = Playbook()
    play.handle(play.submitted(data=FULL, last=False, lifetime_ms=HOUR_MS))
    play.handle(play.submitted(data=b"end", lifetime_ms=HOUR_MS))
    play.handle(play.stored("own0", "own1"))
    play.later(HOUR_MS / 1000)
    play.expect(ev.TimerFired(), "store delete own0 own1; note own0=expired")
    assert play.kinds.count("message.expired") == 1


# Deleting on purpose


def test_cancel_deletes_all_parts_of_a_message() -> None:
    play = Playbook()
    play.handle(play.submitted(data=FULL, last=False))
    play.handle(play.submitted(data=b"end"))
    play.handle(play.stored("own0", "own1"))
    play.take_in("foreign")
    play.expect(ev.BundleCancelled(play.id("own0"), "uid 7"), "store delete own0 own1; note own0=refused")
    assert play.message("own0").reason == "cancelled by uid 7"
    assert play.state("foreign") == "waiting"


def test_cancel_of_a_foreign_bundle_and_of_nothing() -> None:
    play = Playbook()
    play.take_in("a")
    play.expect(ev.BundleCancelled(play.id("a"), "uid 7"), "store delete a")
    play.expect(ev.BundleCancelled(play.id("a"), "uid 7"))


def test_cancel_while_it_is_being_stored_acknowledges_it() -> None:
    play = Playbook()
    play.handle(play.received(LAN, "a"))
    play.expect(ev.BundleCancelled(play.id("a"), "uid 7"), "store delete a", "accept lan0>dpop2 a")


def test_unreadable_is_dropped_and_reported_never_sent_wrong() -> None:
    play = Playbook()
    play.up(SAT)
    play.submit()
    play.bundle("mine", INBOX)
    play.take_in("mine")
    play.expect(
        ev.DataUnreadable([play.id("own0"), play.id("mine"), BundleId(STRANGER, 1, 1)], "checksum"),
        "store delete own0 mine; note own0=refused",
    )
    assert play.kinds == ["bundle.deleted", "bundle.deleted", "message.refused"]
    assert play.agent.forwarding.in_flight(SAT) == 0
    play.expect(ev.ReceiverAttached(1, INBOX))


def test_store_failure_of_what_is_unknown_is_reported_only() -> None:
    play = Playbook()
    play.expect(ev.StoringFailed([BundleId(STRANGER, 1, 1)], "disk full"))
    assert play.kinds == ["store.failed"]
    play.expect(ev.BundlesStored([ev.StoredRow(BundleId(STRANGER, 1, 1), PayloadRef(0, 0, 1))]))


# What the shell sees and changes


def test_looking_at_the_agent() -> None:
    play = Playbook()
    play.take_in("a")
    (entry,) = play.agent.entries()
    assert (entry.record.id, play.agent.stored_bytes) == (play.id("a"), len(play.data["a"]))


def test_reload_changes_limits_routes_and_neighbours() -> None:
    play = Playbook()
    play.up(LAN)
    play.bundle("a", parse_eid("dtn://far/inbox"), source=HOME)
    play.take_in("a", link=SAT)
    neighbours = (NeighbourSettings(DPOP2, "lan0", None),)
    router = ContactRouter(NODE, ContactPlan(), (RouteSettings(None, DPOP2, ()),))
    play.agent.reconfigure(node_settings(bundles_max=1, known_max=1), neighbours, router, frozenset(), play.now)
    play.expect(ev.PosturesChanged({}), "send lan0>dpop2 a")
    assert play.agent.links.get(SAT) is None
    play.expect(play.received(LAN, "b"), "refuse lan0>dpop2 b retriable")


def test_same_events_same_commands() -> None:
    def run() -> list[str]:
        play = Playbook()
        lines = play.up(LAN, SAT)
        for number in range(20):
            play.bundle(f"n{number}", HOME_INBOX if number % 3 else DPOP2, source=STRANGER, precedence=number % 6)
        lines += play.take_in(*[f"n{number}" for number in range(20)], link=SAT)
        lines += play.handle(play.failed(SAT, NO_ROOM, "n1", "n2"))
        return lines

    assert run() == run()


def test_creation_note_is_what_the_clock_wrote() -> None:
    play = Playbook()
    play.handle(play.submitted())
    (group,) = [command for command in play.commands if isinstance(command, cmd.WriteStore)]
    assert CreationClock(group.notes[CREATION_NOTE]).next(5) == (5, SEQUENCE_BLOCK)
    assert scan_untrusted(group.puts[0].payload.inline or b"").id == group.puts[0].id
    assert NOTE_PREFIX + bundle_id_text(group.puts[0].id) in group.notes


def test_notes_and_tells_of_a_group_that_failed_go_with_the_next_one() -> None:
    play = Playbook()
    play.up(SAT)
    name = play.submit()
    play.handle(play.acknowledged(SAT, name))
    assert [tell.kind for tell in play.tells] == ["message.forwarded"]
    (group,) = [command for command in play.commands if isinstance(command, cmd.WriteStore)]
    names = [*group.notes, "creation", "copies/dtn://dpop2/inbox@1.1"]
    lines = play.handle(ev.StoringFailed([BundleId(STRANGER, 1, 1)], "disk full", names, group.tells))
    assert lines == [f"store note {name}=forwarded copies/dtn://dpop2/inbox@1.1 creation"]
    assert [tell.kind for tell in play.tells] == ["message.forwarded"]
