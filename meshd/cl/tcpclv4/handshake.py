# SPDX-License-Identifier: Apache-2.0
"""How a TCPCLv4 session begins: contact headers, TLS if both want it, parameters (RFC 9174 sections 4.2 to 4.8).

What is agreed on is `negotiation.py`; when each step is due, and what a failed one does to the session, is left to the
session.
"""

from meshd.bundle.eid import Eid
from meshd.cl.tcpclv4.messages import CONTACT_BYTES, SessionFault, SessionInit
from meshd.cl.tcpclv4.negotiation import Agreement, agree, agree_on_tls, make_contact_header, pack_offer
from meshd.cl.tcpclv4.settings import Role, SessionSettings
from meshd.cl.tcpclv4.states import State, pack_complaint


class Handshake:
    """One side of it. The active side speaks at once.

    Args:
        answers: takes what is to be written.
    """

    def __init__(self, settings: SessionSettings, role: Role, answers: list[bytes]) -> None:
        self._settings = settings
        self._role = role
        self._answers = answers
        self._proven: frozenset[Eid] | None = None
        if role is Role.ACTIVE:
            answers.append(make_contact_header(settings))

    def take_contact(self, data: bytes) -> State:
        """Section 4.3: the passive side answers, the active one goes on, or TLS comes next. Errors: SessionFault."""
        if self._role is Role.PASSIVE:
            self._answers.append(make_contact_header(self._settings))
        if not agree_on_tls(self._settings, data[CONTACT_BYTES - 1]):
            return self._begin_negotiation()
        if len(data) > CONTACT_BYTES:
            raise SessionFault("the peer sent more than its contact header before TLS", None, is_insecure=True)
        return State.SECURING

    def secure(self, proven: frozenset[Eid]) -> State:
        """TLS stands, and the peer's certificate, which is good, names these nodes."""
        self._proven = proven
        return self._begin_negotiation()

    def take_offer(self, offer: SessionInit) -> Agreement:
        """Section 4.7: agree on the session's parameters. Errors: SessionFault."""
        agreement = agree(self._settings, offer, self._proven)
        if self._role is Role.PASSIVE:
            self._answers.append(pack_offer(self._settings))
        return agreement

    def complain(self, fault: SessionFault, state: State) -> None:
        """Tell the peer what it did, as far as the protocol allows."""
        self._answers += pack_complaint(fault, state, self._role, make_contact_header(self._settings))

    def _begin_negotiation(self) -> State:
        if self._role is Role.ACTIVE:
            self._answers.append(pack_offer(self._settings))
        return State.NEGOTIATION
