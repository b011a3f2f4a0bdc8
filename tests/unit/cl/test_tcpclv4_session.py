# SPDX-License-Identifier: Apache-2.0
"""The life of a TCPCLv4 session: negotiation, keepalive, silence, termination (RFC 9174 sections 4, 5.1 and 6)."""

import pytest

from meshd.cl.tcpclv4 import messages
from meshd.cl.tcpclv4.events import (
    EndReason,
    SessionEnded,
    SessionEstablished,
    TransfersAcknowledged,
    TransfersReceived,
)
from meshd.cl.tcpclv4.messages import ACK, SEGMENT_WHOLE, WHOLE, RefuseReason, SessionInit, TermReason
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role
from meshd.cl.tcpclv4.states import State
from tests.unit.cl.tcpclv4_pair import (
    ALPHA,
    BRAVO,
    CHARLIE,
    Pair,
    drain,
    make_established,
    make_settings,
    written,
)

KEEPALIVE = b"\x04"
TERM_UNKNOWN = bytes((5, 0, 0))


def ends_of(session: Session) -> list[SessionEnded]:
    return [event for event in drain(session) if isinstance(event, SessionEnded)]


def test_negotiation_takes_the_smaller_values() -> None:
    active = make_settings(ALPHA, BRAVO, keepalive_s=30, segment_mru_bytes=5000, transfer_mru_bytes=6000)
    passive = make_settings(BRAVO, ALPHA, keepalive_s=20, segment_mru_bytes=7000, transfer_mru_bytes=8000)
    pair = Pair(active, passive)
    assert pair.take() == ([SessionEstablished(BRAVO, 20, 7000, 8000)], [SessionEstablished(ALPHA, 20, 5000, 6000)])


def test_wire_of_the_handshake() -> None:
    active = Session(make_settings(ALPHA, BRAVO, keepalive_s=15), Role.ACTIVE, 0.0)
    passive = Session(make_settings(BRAVO, ALPHA, keepalive_s=15), Role.PASSIVE, 0.0)
    assert written(passive) == b""  # the passive side waits (section 4.1)
    assert written(active) == b"dtn!\x04\x00"
    passive.receive_data(b"dtn!\x04\x00", 0.0)
    assert written(passive) == b"dtn!\x04\x00"
    active.receive_data(b"dtn!\x04\x00", 0.0)
    mru = (1 << 20).to_bytes(8, "big")
    assert written(active) == b"\x07\x00\x0f" + mru + mru + b"\x00\x0cdtn://alpha/" + b"\0\0\0\0"


def test_reserved_contact_flags_are_ignored() -> None:
    session = Session(make_settings(BRAVO, None), Role.PASSIVE, 0.0)
    session.receive_data(b"dtn!\x04\xff", 0.0)
    assert session.state is State.NEGOTIATION


def test_unwelcome_peer_is_told_and_named() -> None:
    pair = Pair(make_settings(CHARLIE, BRAVO), make_settings(BRAVO, ALPHA))
    active, passive = pair.take()
    assert passive == [SessionEnded(EndReason.UNWANTED_PEER, "dtn://charlie/ is not welcome here", True)]
    assert [type(event) for event in active] == [SessionEnded]
    assert active[0] == SessionEnded(EndReason.CONTACT_FAILURE, "the peer ended the session: contact failure", False)


def test_active_side_finds_somebody_else() -> None:
    pair = Pair(make_settings(ALPHA, BRAVO), make_settings(CHARLIE, ALPHA))
    active, _ = pair.take()
    assert active == [SessionEnded(EndReason.UNWANTED_PEER, "dtn://charlie/ is not welcome here", True)]


def test_peer_without_a_name_is_welcome_only_to_who_takes_anybody() -> None:
    offer = messages.pack_session_init(SessionInit(0, 1 << 20, 1 << 20, None))
    open_minded = Session(make_settings(BRAVO, None), Role.PASSIVE, 0.0)
    open_minded.receive_data(messages.CONTACT_HEADER + offer, 0.0)
    assert drain(open_minded) == [SessionEstablished(None, 0, 1 << 20, 1 << 20)]
    strict = Session(make_settings(BRAVO, ALPHA), Role.PASSIVE, 0.0)
    strict.receive_data(messages.CONTACT_HEADER + offer, 0.0)
    assert [end.reason for end in ends_of(strict)] == [EndReason.UNWANTED_PEER]


@pytest.mark.parametrize(("segment_mru", "transfer_mru"), [(63, 1 << 20), (1 << 20, 1023)])
def test_peer_that_takes_next_to_nothing_is_refused(segment_mru: int, transfer_mru: int) -> None:
    session = Session(make_settings(BRAVO, None), Role.PASSIVE, 0.0)
    offer = messages.pack_session_init(SessionInit(0, segment_mru, transfer_mru, ALPHA))
    session.receive_data(messages.CONTACT_HEADER + offer, 0.0)
    assert [end.reason for end in ends_of(session)] == [EndReason.CONTACT_FAILURE]
    assert written(session).endswith(bytes((5, 0, TermReason.CONTACT_FAILURE)))


def test_keepalive_is_sent_when_nothing_else_was() -> None:
    session = make_established()
    assert session.get_timer() == 15.0
    session.handle_timer(14.9)
    assert written(session, 14.9) == b""
    session.handle_timer(15.0)
    assert written(session, 15.0) == KEEPALIVE
    session.send_transfer([b"x"], 1)
    written(session, 20.0)
    session.receive_data(KEEPALIVE, 20.0)
    assert session.get_timer() == 35.0


def test_timer_does_not_spin_while_nothing_can_be_written() -> None:
    session = make_established()
    session.handle_timer(15.0)
    assert session.get_timer() == 30.0


def test_silent_peer_is_given_up_after_two_intervals() -> None:
    session = make_established()
    session.receive_data(KEEPALIVE, 10.0)
    session.handle_timer(39.9)
    assert ends_of(session) == []
    session.handle_timer(40.0)
    assert ends_of(session) == [SessionEnded(EndReason.IDLE_TIMEOUT, "nothing was heard for 30 s", False)]
    assert written(session, 40.0).endswith(bytes((5, 0, TermReason.IDLE_TIMEOUT)))
    assert session.get_timer() is None


def test_three_keepalives_of_a_second_have_to_be_missing() -> None:
    session = make_established(keepalive_s=1)
    session.handle_timer(2.9)
    assert ends_of(session) == []
    session.handle_timer(3.0)
    assert ends_of(session) == [SessionEnded(EndReason.IDLE_TIMEOUT, "nothing was heard for 3 s", False)]


def test_who_was_stopped_itself_does_not_blame_the_peer() -> None:
    session = make_established(keepalive_s=1)
    session.handle_timer(60.0)
    assert ends_of(session) == []
    session.handle_timer(62.9)
    assert ends_of(session) == []
    session.handle_timer(63.0)
    assert len(ends_of(session)) == 1


def test_half_a_message_counts_as_heard() -> None:
    session = make_established()
    session.receive_data(SEGMENT_WHOLE.pack(1, WHOLE, 0, 0, 100) + b"x", 29.0)
    session.handle_timer(58.9)
    assert ends_of(session) == []


def test_no_keepalive_when_one_side_offers_none() -> None:
    session = make_established(keepalive_s=0)
    assert session.get_timer() is None


def test_handshake_has_a_deadline() -> None:
    session = Session(make_settings(BRAVO, None), Role.PASSIVE, 100.0)
    assert session.get_timer() == 130.0
    session.receive_data(b"dtn", 110.0)
    session.handle_timer(130.0)
    assert [end.reason for end in ends_of(session)] == [EndReason.HANDSHAKE_TIMEOUT]
    assert written(session) == b""  # no SESS_TERM before our contact header


def test_handshake_deadline_after_the_contact_header_is_told() -> None:
    session = Session(make_settings(BRAVO, None), Role.PASSIVE, 0.0)
    session.receive_data(b"dtn!\x04\x00", 0.0)
    session.handle_timer(30.0)
    assert [end.reason for end in ends_of(session)] == [EndReason.HANDSHAKE_TIMEOUT]
    assert written(session) == messages.CONTACT_HEADER + bytes((5, 0, TermReason.IDLE_TIMEOUT))


def test_silence_sends_nothing_and_ends_nothing() -> None:
    session = make_established()
    session.freeze(1.0)
    assert session.get_timer() is None
    session.handle_timer(1000.0)
    session.receive_data(SEGMENT_WHOLE.pack(1, WHOLE, 7, 0, 1) + b"x", 1000.0)
    assert [type(event) for event in drain(session)] == [TransfersReceived]
    session.acknowledge([7])
    session.send_transfer([b"y"], 1)
    assert written(session, 1000.0) == b""
    session.thaw(2000.0)
    assert written(session, 2000.0) == ACK.pack(2, WHOLE, 7, 1) + SEGMENT_WHOLE.pack(1, WHOLE, 0, 0, 1) + b"y"
    session.handle_timer(2029.9)
    assert ends_of(session) == []
    session.handle_timer(2030.0)
    assert [end.reason for end in ends_of(session)] == [EndReason.IDLE_TIMEOUT]


def test_silence_during_the_handshake_stretches_its_deadline() -> None:
    session = Session(make_settings(BRAVO, None), Role.ACTIVE, 0.0)
    session.freeze(10.0)
    session.thaw(110.0)
    assert session.get_timer() == 130.0


def test_termination_finishes_what_is_under_way() -> None:
    pair = Pair(make_settings(ALPHA, BRAVO, segment_bytes=600_000)).establish()
    pair.active.send_transfer([b"x" * 1_000_000], 1_000_000)
    begun = b"".join(pair.active.data_to_send(0.0))
    pair.active.send_transfer([b"never"], 5)
    pair.passive.receive_data(begun, 0.0)
    pair.active.terminate(TermReason.UNKNOWN, "the daemon stops", 0.0)
    assert not pair.active.can_send
    active, passive = pair.take()
    assert active == []
    (received,) = passive
    assert isinstance(received, TransfersReceived)
    assert len(received.rows[0].data) == 1_000_000
    pair.passive.acknowledge([0])
    active, passive = pair.take()
    ended = SessionEnded(EndReason.TERMINATED, "the daemon stops", False)
    assert active == [TransfersAcknowledged([0]), ended]
    assert [type(event) for event in passive] == [SessionEnded]


def test_term_is_answered_with_the_same_reason() -> None:
    session = make_established()
    session.receive_data(bytes((5, 0, TermReason.BUSY)), 0.0)
    assert written(session) == bytes((5, 1, TermReason.BUSY))
    assert ends_of(session) == [SessionEnded(EndReason.TERMINATED, "the peer ended the session: busy", False)]


def test_term_with_an_unknown_reason_is_answered_too() -> None:
    session = make_established()
    session.receive_data(bytes((5, 0, 0xEE)), 0.0)
    assert written(session) == bytes((5, 1, 0xEE))
    assert ends_of(session)[0].text == "the peer ended the session: unknown"


def test_new_transfer_while_ending_is_refused() -> None:
    session = make_established()
    session.terminate(TermReason.UNKNOWN, "the daemon stops", 0.0)
    session.receive_data(SEGMENT_WHOLE.pack(1, WHOLE, 7, 0, 1) + b"x", 0.0)
    assert written(session) == TERM_UNKNOWN + bytes((3, RefuseReason.SESSION_TERMINATING)) + (7).to_bytes(8, "big")
    assert drain(session) == []


def test_two_terms_that_cross_need_no_reply() -> None:
    session = make_established()
    session.terminate(TermReason.UNKNOWN, "the daemon stops", 0.0)
    session.receive_data(TERM_UNKNOWN, 0.0)
    assert written(session) == TERM_UNKNOWN
    assert ends_of(session) == [SessionEnded(EndReason.TERMINATED, "the daemon stops", False)]


def test_ending_has_a_deadline() -> None:
    session = make_established()
    session.send_transfer([b"x"], 1)
    written(session)
    session.terminate(TermReason.UNKNOWN, "the daemon stops", 5.0)
    session.receive_data(TERM_UNKNOWN, 5.0)
    session.handle_timer(14.9)
    assert ends_of(session) == []
    session.handle_timer(15.0)
    (end,) = ends_of(session)
    assert end.reason is EndReason.TERMINATED
    assert "did not finish in 10 s" in end.text


def test_lost_connection_ends_the_session_once() -> None:
    session = make_established()
    session.connection_lost("reset by peer")
    session.connection_lost("again")
    session.receive_data(KEEPALIVE, 0.0)
    session.terminate(TermReason.UNKNOWN, "late", 0.0)
    assert drain(session) == [SessionEnded(EndReason.CONNECTION_LOST, "reset by peer", False)]
    assert written(session) == b""


def test_termination_before_anything_was_heard() -> None:
    passive = Session(make_settings(BRAVO, None), Role.PASSIVE, 0.0)
    passive.terminate(TermReason.BUSY, "too many sessions", 0.0)
    assert written(passive) == b""
    assert [end.text for end in ends_of(passive)] == ["too many sessions"]


def test_link_cut_one_way_is_ended_by_the_side_that_hears_nothing() -> None:
    pair = Pair().establish()
    pair.active.send_transfer([b"lost"], 4)
    for second in range(1, 31):
        pair.active.handle_timer(second)
        pair.passive.handle_timer(second)
        written(pair.active, second)  # cut: nothing of it arrives
        back = written(pair.passive, second)
        if back:
            pair.active.receive_data(back, second)
    assert [end.reason for end in ends_of(pair.passive)] == [EndReason.IDLE_TIMEOUT]
    assert [end.text for end in ends_of(pair.active)] == []  # it still waits for its transfer
    pair.active.handle_timer(40.0)
    (end,) = ends_of(pair.active)
    assert end.reason is EndReason.TERMINATED
    assert "idle timeout" in end.text


def test_a_session_that_one_side_ends_because_it_is_idle_tells_both_sides_so() -> None:
    pair = Pair(make_settings(ALPHA, BRAVO), make_settings(BRAVO, ALPHA)).establish()
    pair.take()
    assert pair.active.is_idle
    assert not make_established().is_retiring
    pair.active.terminate(TermReason.IDLE_TIMEOUT, "it carried nothing", 0.0)
    assert pair.active.is_retiring
    active, passive = pair.take()
    assert pair.passive.is_retiring
    assert active == [SessionEnded(EndReason.IDLE, "it carried nothing", False)]
    assert passive == [SessionEnded(EndReason.IDLE, "the peer ended the session: idle timeout", False)]


def test_an_idle_end_that_nobody_answers_is_an_ordinary_one() -> None:
    """The peer may be gone."""
    session = make_established()
    session.terminate(TermReason.IDLE_TIMEOUT, "it carried nothing", 0.0)
    session.handle_timer(10.0)
    assert [end.reason for end in ends_of(session)] == [EndReason.TERMINATED]
    session = make_established()
    session.terminate(TermReason.IDLE_TIMEOUT, "it carried nothing", 0.0)
    session.connection_lost("reset by peer")
    assert [end.reason for end in ends_of(session)] == [EndReason.CONNECTION_LOST]
