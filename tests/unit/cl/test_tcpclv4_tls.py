# SPDX-License-Identifier: Apache-2.0
"""How a TCPCLv4 session agrees on TLS, and what it makes of the peer's proven names (RFC 9174 sections 4.3, 4.4)."""

import dataclasses

import pytest

from meshd.base.errors import LocalProtocolError
from meshd.bundle.eid import Eid
from meshd.cl.tcpclv4.events import EndReason, SessionEnded, SessionEstablished
from meshd.cl.tcpclv4.messages import CONTACT_HEADER, CONTACT_HEADER_TLS, SessionInit, TermReason, pack_session_init
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role
from meshd.cl.tcpclv4.states import State
from meshd.link.settings import TlsPolicy
from tests.unit.cl.tcpclv4_pair import ALPHA, BRAVO, CHARLIE, drain, make_settings, written

TERM_CONTACT_FAILURE = bytes((5, 0, 4))
INIT = pack_session_init(SessionInit(15, 1 << 20, 1 << 20, ALPHA))


def make(role: Role, policy: TlsPolicy) -> Session:
    settings = make_settings(*((ALPHA, BRAVO) if role is Role.ACTIVE else (BRAVO, ALPHA)))
    return Session(dataclasses.replace(settings, tls=policy), role, 0.0)


def only_end(session: Session) -> SessionEnded:
    (event,) = drain(session)
    assert isinstance(event, SessionEnded)
    return event


def shake(active: Session, passive: Session) -> None:
    """Exchange contact headers."""
    passive.receive_data(written(active), 0.0)
    active.receive_data(written(passive), 0.0)


def secured() -> tuple[Session, Session]:
    active, passive = make(Role.ACTIVE, TlsPolicy.REQUIRE), make(Role.PASSIVE, TlsPolicy.REQUIRE)
    shake(active, passive)
    assert active.state is passive.state is State.SECURING
    return active, passive


def test_a_session_over_tls() -> None:
    active, passive = secured()
    assert written(active) == written(passive) == b""  # nothing between contact header and TLS
    assert not active.can_receive
    active.secure(frozenset({BRAVO}))
    passive.secure(frozenset({ALPHA, CHARLIE}))
    assert written(passive) == b""
    passive.receive_data(written(active), 0.0)
    active.receive_data(written(passive), 0.0)
    assert [type(event) for event in drain(active) + drain(passive)] == [SessionEstablished, SessionEstablished]


@pytest.mark.parametrize("proven", [frozenset({CHARLIE}), frozenset[Eid]()])
def test_another_name_than_the_certificates_is_refused(proven: frozenset[Eid]) -> None:
    active, passive = secured()
    active.secure(frozenset({BRAVO}))
    passive.secure(proven)
    passive.receive_data(written(active), 0.0)
    end = only_end(passive)
    assert end.reason is EndReason.TLS_FAILURE
    assert end.is_peer_fault
    assert "wrong node ID: the peer says it is dtn://alpha/" in end.text
    assert written(passive) == TERM_CONTACT_FAILURE


def test_a_nameless_peer_is_refused_over_tls() -> None:
    passive = Session(dataclasses.replace(make_settings(BRAVO, None), tls=TlsPolicy.REQUIRE), Role.PASSIVE, 0.0)
    passive.receive_data(CONTACT_HEADER_TLS, 0.0)
    passive.secure(frozenset({ALPHA}))
    passive.receive_data(pack_session_init(SessionInit(15, 1 << 20, 1 << 20, None)), 0.0)
    assert "the peer says it is nobody" in only_end(passive).text


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (TlsPolicy.REQUIRE, True, State.SECURING),
        (TlsPolicy.REQUIRE, False, State.ENDED),
        (TlsPolicy.OPPORTUNISTIC, True, State.SECURING),
        (TlsPolicy.OPPORTUNISTIC, False, State.NEGOTIATION),
        (TlsPolicy.NEVER, True, State.NEGOTIATION),
        (TlsPolicy.NEVER, False, State.NEGOTIATION),
    ],
)
@pytest.mark.parametrize("role", list(Role))
def test_policy_and_offer(role: Role, mine: TlsPolicy, theirs: bool, expected: State) -> None:
    session = make(role, mine)
    session.receive_data(CONTACT_HEADER_TLS if theirs else CONTACT_HEADER, 0.0)
    assert session.state is expected
    own = CONTACT_HEADER if mine is TlsPolicy.NEVER else CONTACT_HEADER_TLS
    said = written(session)
    assert said.startswith(own)
    if expected is State.ENDED:
        assert said == own + TERM_CONTACT_FAILURE
        end = only_end(session)
        assert (end.reason, end.is_peer_fault) == (EndReason.TLS_FAILURE, True)
        assert "TLS is required here" in end.text


def test_only_the_contact_header_is_read_before_tls() -> None:
    session = make(Role.PASSIVE, TlsPolicy.REQUIRE)
    assert session.receive_max_bytes == 6
    session.receive_data(CONTACT_HEADER_TLS[:4], 0.0)
    assert session.receive_max_bytes == 2
    session.receive_data(CONTACT_HEADER_TLS[4:], 0.0)
    assert session.state is State.SECURING
    session.secure(frozenset({ALPHA}))
    assert session.receive_max_bytes is None


def test_plain_text_glued_to_the_contact_header_never_counts() -> None:
    session = make(Role.PASSIVE, TlsPolicy.REQUIRE)
    session.receive_data(CONTACT_HEADER_TLS + INIT, 0.0)
    end = only_end(session)
    assert end.reason is EndReason.TLS_FAILURE
    assert "more than its contact header before TLS" in end.text


def test_a_failed_handshake_ends_without_a_word() -> None:
    _, passive = secured()
    passive.fail_securing("the peer has no certificate", is_tellable=False)
    end = only_end(passive)
    assert (end.reason, end.text, end.is_peer_fault) == (EndReason.TLS_FAILURE, "the peer has no certificate", True)
    assert written(passive) == b""


def test_a_refused_certificate_is_told_over_tls() -> None:
    _, passive = secured()
    passive.fail_securing("the certificate is revoked", is_tellable=True)
    assert only_end(passive).reason is EndReason.TLS_FAILURE
    assert written(passive) == TERM_CONTACT_FAILURE


def test_a_handshake_takes_no_longer_than_a_session_may() -> None:
    _, passive = secured()
    passive.handle_timer(30.0)
    assert only_end(passive).reason is EndReason.HANDSHAKE_TIMEOUT
    assert written(passive) == b""


def test_terminating_during_the_handshake_writes_nothing_in_plain_text() -> None:
    active, _ = secured()
    active.terminate(TermReason.UNKNOWN, "the daemon stops", 0.0)
    assert only_end(active).reason is EndReason.TERMINATED
    assert written(active) == b""


def test_securing_at_another_time_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="no TLS is awaited in state contact"):
        make(Role.ACTIVE, TlsPolicy.REQUIRE).secure(frozenset({BRAVO}))
