# SPDX-License-Identifier: Apache-2.0
"""What became of our messages: states only move forward, and the table is bounded."""

import itertools

import msgspec
import pytest

from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId, Part, bundle_id_text
from meshd.node import sent_messages
from meshd.node.sent_messages import NOTE_PREFIX, Message, MessageState, SentMessages, message_id_of

SOURCE = parse_eid("dtn://dpop1/inbox")
S = MessageState
FORWARD = {
    (S.QUEUED, S.FORWARDED),
    (S.QUEUED, S.DELIVERED),
    (S.QUEUED, S.EXPIRED),
    (S.QUEUED, S.REFUSED),
    (S.FORWARDED, S.DELIVERED),
    (S.FORWARDED, S.EXPIRED),
    (S.FORWARDED, S.REFUSED),
    (S.EXPIRED, S.DELIVERED),
    (S.REFUSED, S.DELIVERED),
}


def bundle(sequence: int) -> BundleId:
    """An own bundle."""
    return BundleId(SOURCE, 5, sequence)


def message(sequence: int, parts: int = 1) -> Message:
    """A message whose parts have the numbers from `sequence` on."""
    first, last = bundle_id_text(bundle(sequence)), bundle_id_text(bundle(sequence + parts - 1))
    return Message(first, "dtn://home/inbox", "dtn://home/", 1, 10, parts, 100 + sequence, 10**6, last)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(MessageState, MessageState)))
def test_states_only_move_forward(before: MessageState, after: MessageState) -> None:
    messages = SentMessages()
    mine = message(1)
    mine.state = before
    messages.add(mine)
    messages.take_notes()
    moved = messages.advance(mine.id_text, after, "why", 200)
    assert (moved is not None) == ((before, after) in FORWARD)
    assert mine.state is (after if moved else before)
    assert bool(messages.take_notes()) == (moved is not None)
    assert mine.history == [(101, "queued"), *([(200, f"{after.value}: why")] if moved else [])]


def test_forwarded_when_the_last_part_is_gone() -> None:
    messages = SentMessages()
    messages.add(message(1, parts=3))
    assert messages.part_gone(bundle(1), 5) is None
    assert messages.part_gone(bundle(1), 5) is None
    gone = messages.part_gone(bundle(1), 5)
    assert gone is not None
    assert gone.state is MessageState.FORWARDED
    assert not gone.is_final
    assert messages.part_gone(bundle(1), 5) is None
    assert messages.part_gone(bundle(9), 5) is None


def test_found_by_the_bundle_whose_report_counts() -> None:
    messages = SentMessages()
    messages.add(message(1, parts=3))
    found = messages.reported_by(bundle(3))
    assert found is not None
    assert found.id_text == bundle_id_text(bundle(1))
    assert messages.reported_by(bundle(1)) is None


def test_recovery() -> None:
    before = SentMessages()
    before.add(message(1, parts=3))
    before.add(message(7))
    before.advance(bundle_id_text(bundle(7)), MessageState.DELIVERED, "", 9)
    notes = before.take_notes() | {"creation": b"\x82"}
    after = SentMessages()
    after.recover(notes, [bundle(1), bundle(1), bundle(50)])
    assert [each.state for each in after.all()] == [MessageState.QUEUED, MessageState.DELIVERED]
    assert after.reported_by(bundle(3)) is not None
    assert after.part_gone(bundle(1), 5) is None
    assert after.part_gone(bundle(1), 5) is not None
    assert after.get(bundle_id_text(bundle(50))) is None


def test_forget() -> None:
    messages = SentMessages()
    messages.add(message(1))
    messages.forget(bundle_id_text(bundle(1)))
    assert messages.take_notes() == {NOTE_PREFIX + bundle_id_text(bundle(1)): b""}
    assert messages.reported_by(bundle(1)) is None
    messages.forget(bundle_id_text(bundle(1)))
    assert messages.take_notes() == {}
    assert messages.advance(bundle_id_text(bundle(1)), MessageState.DELIVERED, "", 1) is None


def test_bounded_final_ones_go_first_then_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_messages, "MESSAGES_MAX", 3)
    messages = SentMessages()
    for sequence in (1, 2, 3):
        messages.add(message(sequence))
    messages.advance(bundle_id_text(bundle(2)), MessageState.DELIVERED, "", 9)
    messages.take_notes()
    messages.add(message(4))
    assert [each.created_ms for each in messages.all()] == [101, 103, 104]
    assert messages.take_notes()[NOTE_PREFIX + bundle_id_text(bundle(2))] == b""
    messages.add(message(5))
    assert [each.created_ms for each in messages.all()] == [103, 104, 105]


def test_too_many_after_a_restart_come_down_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [message(sequence) for sequence in range(6)]
    messages = SentMessages()
    messages.recover({NOTE_PREFIX + each.id_text: msgspec.msgpack.encode(each) for each in kept}, [])
    monkeypatch.setattr(sent_messages, "MESSAGES_MAX", 3)
    messages.add(message(9))
    assert len(list(messages.all())) == 3


def test_histories_are_not_shared() -> None:
    one, other = message(1), message(2)
    messages = SentMessages()
    messages.add(one)
    messages.add(other)
    assert (len(one.history), len(other.history)) == (1, 1)


def test_message_of_a_bundle() -> None:
    assert message_id_of(bundle(4), None) == bundle(4)
    assert message_id_of(bundle(4), Part(5, 2, 2, 20, False)) == bundle(2)
