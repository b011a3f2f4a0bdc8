# SPDX-License-Identifier: Apache-2.0
"""The router's side of a DLEP session (RFC 8175 section 7) as a protocol machine.

`receive_data` takes bytes of the TCP connection, `data_to_send` and `next_event` give what comes of them, `get_timer`
and `handle_timer` are for heartbeats. The base protocol only: no extensions, no announcements, no requests for link
characteristics, since a radio is not ours to tune. Whoever breaks the protocol is told by Session Termination, and the
session ends when that is answered or four heartbeats later.
"""

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final

from meshd.base.errors import LocalProtocolError
from meshd.link.dlep.destinations import Destination, Destinations
from meshd.link.dlep.items import METRIC_FIELDS, TERMINATE_FROM, DlepError, Metrics, Status
from meshd.link.dlep.messages import MESSAGE_HEAD, Message, MessageType, pack_message, parse_message_untrusted

PEER_TYPE: Final = "meshd"
HEARTBEAT_MIN_S: Final = 1.0
"""Section 7.3.1."""
HEARTBEATS_MISSED: Final = 2
"""So many intervals of the modem's without a message end the session."""
HEARTBEATS_TO_END: Final = 4
"""So many of ours we wait for the answer to a termination."""
INIT_TIMEOUT_S: Final = 10.0
"""For the modem's first message."""


class State(enum.Enum):
    """Of the session."""

    INITIALIZING = "initializing"
    IN_SESSION = "in session"
    TERMINATING = "terminating"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class SessionUp:
    """The modem is there, and says this of every link."""

    peer_type: str
    is_secured: bool
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class MetricsChanged:
    """The modem says this of every link from now on."""

    metrics: Metrics


@dataclass(frozen=True, slots=True)
class DestinationChanged:
    """A destination is up, or what is known of it has changed."""

    destination: Destination


@dataclass(frozen=True, slots=True)
class DestinationGone:
    """The modem reaches it no more."""

    destination: Destination


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Nothing is known from this modem any more. The connection has to be closed once everything is sent."""

    reason: str


DlepEvent = SessionUp | MetricsChanged | DestinationChanged | DestinationGone | SessionEnded


class RouterSession:
    """One session over one TCP connection, which has just been made."""

    def __init__(self, heartbeat_s: float, now: float) -> None:
        """Errors: LocalProtocolError: heartbeats more often than each second."""
        if heartbeat_s < HEARTBEAT_MIN_S:
            raise LocalProtocolError(f"a heartbeat of {heartbeat_s} s is too often; the least is {HEARTBEAT_MIN_S} s")
        self.state = State.INITIALIZING
        self.destinations = Destinations()
        self._heartbeat_s = heartbeat_s
        self._modem_heartbeat_s = 0.0
        self._metrics = Metrics()
        self._metric_fields: frozenset[str] = frozenset()
        self._buffer = bytearray()
        self._outgoing: list[bytes] = []
        self._events: deque[DlepEvent] = deque()
        self._deadline = now + INIT_TIMEOUT_S
        self._beat_at = now + heartbeat_s
        self._send(
            Message(MessageType.SESSION_INIT, peer_type=PEER_TYPE, heartbeat_ms=round(heartbeat_s * 1000)),
            now,
        )

    @property
    def is_closed(self) -> bool:
        """Nothing more comes of it."""
        return self.state is State.CLOSED

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes from the modem; empty: it has closed the connection (section 7.5.1)."""
        if self.is_closed:
            return
        if not data:
            self._end("the modem closed the connection")
            return
        self._buffer += data
        while (taken := self._next_message()) is not None:
            self._take(*taken, now)

    def _next_message(self) -> tuple[int, bytes] | None:
        """Type and data items of the next complete one."""
        if self.is_closed or len(self._buffer) < MESSAGE_HEAD.size:
            return None
        number, size = MESSAGE_HEAD.unpack_from(self._buffer)
        end = MESSAGE_HEAD.size + size
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[MESSAGE_HEAD.size : end])
        del self._buffer[:end]
        return number, body

    def data_to_send(self) -> bytes:
        """What the modem is to get now."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def next_event(self) -> DlepEvent | None:
        """The oldest event that nobody has taken yet."""
        return self._events.popleft() if self._events else None

    def get_timer(self) -> float | None:
        """When `handle_timer` is due; None: never again."""
        match self.state:
            case State.CLOSED:
                return None
            case State.IN_SESSION:
                return min(self._deadline, self._beat_at)
            case _:
                return self._deadline

    def handle_timer(self, now: float) -> None:
        """The time has come."""
        if self.state is State.CLOSED:
            return
        if now >= self._deadline:
            self._run_out(now)
        elif self.state is State.IN_SESSION and now >= self._beat_at:
            self._send(Message(MessageType.HEARTBEAT), now)

    def close(self, now: float) -> None:
        """We are shutting down."""
        if self.state in {State.INITIALIZING, State.IN_SESSION}:
            self._terminate(Status.SHUTTING_DOWN, "the router is shutting down", now)

    def _run_out(self, now: float) -> None:
        match self.state:
            case State.INITIALIZING:
                self._end(f"the modem did not answer within {INIT_TIMEOUT_S:.0f} s")
            case State.IN_SESSION:
                self._terminate(Status.TIMED_OUT, f"{HEARTBEATS_MISSED} heartbeats of the modem are missing", now)
            case _:
                self._end("the modem did not answer the termination")

    def _take(self, number: int, body: bytes, now: float) -> None:
        try:
            message = parse_message_untrusted(number, body)
            match self.state:
                case State.INITIALIZING:
                    self._initialize(message, now)
                case State.IN_SESSION:
                    self._handle(message, now)
                case _:
                    self._await_termination(message, now)
        except DlepError as error:
            match self.state:
                case State.INITIALIZING | State.IN_SESSION:
                    self._terminate(error.status, str(error), now)
                case _:
                    pass  # "Any other Message received while waiting MUST be silently ignored" (section 7.4)
        if self.state is State.IN_SESSION:
            self._deadline = now + HEARTBEATS_MISSED * self._modem_heartbeat_s

    def _initialize(self, message: Message, now: float) -> None:
        match message.type:
            case MessageType.SESSION_INIT_RESPONSE:
                self._check_status(message)
                if message.status != Status.SUCCESS:
                    raise DlepError(
                        Status.SHUTTING_DOWN, f"the modem refused the session: {message.status_text or message.status}"
                    )
            case MessageType.SESSION_TERMINATION:
                self._answer_termination(message, now)
                return
            case _:
                raise _unexpected(message)
        self._modem_heartbeat_s = (message.heartbeat_ms or 0) / 1000
        self._metrics = message.metrics
        self._metric_fields = frozenset(field for field in METRIC_FIELDS if getattr(message.metrics, field) is not None)
        self.state = State.IN_SESSION
        self._events.append(SessionUp(message.peer_type or "", message.is_secured, message.metrics))

    def _handle(self, message: Message, now: float) -> None:
        self._check_status(message)
        self._check_metrics(message)
        match message.type:
            case MessageType.HEARTBEAT:
                pass
            case MessageType.SESSION_UPDATE:
                self._update_session(message, now)
            case MessageType.DESTINATION_UP:
                self._take_up(message, now)
            case MessageType.DESTINATION_UPDATE:
                changed = self.destinations.update(_mac(message), message)
                if changed is not None:
                    self._events.append(DestinationChanged(changed))
            case MessageType.DESTINATION_DOWN:
                gone = self.destinations.remove(_mac(message))
                self._send(Message(MessageType.DESTINATION_DOWN_RESPONSE, mac=message.mac, status=Status.SUCCESS), now)
                if gone is not None:
                    self._events.append(DestinationGone(gone))
            case MessageType.SESSION_TERMINATION:
                self._answer_termination(message, now)
            case _:
                raise _unexpected(message)

    def _take_up(self, message: Message, now: float) -> None:
        status, destination = self.destinations.add(_mac(message), message, self._metrics)
        self._send(Message(MessageType.DESTINATION_UP_RESPONSE, mac=message.mac, status=status), now)
        if destination is not None:
            self._events.append(DestinationChanged(destination))

    def _update_session(self, message: Message, now: float) -> None:
        self._send(Message(MessageType.SESSION_UPDATE_RESPONSE, status=Status.SUCCESS), now)
        before, self._metrics = self._metrics, self._metrics.updated(message.metrics)
        if message.metrics == Metrics():
            return
        if self._metrics != before:
            self._events.append(MetricsChanged(self._metrics))
        self._events.extend(map(DestinationChanged, self.destinations.update_all(message.metrics)))

    def _check_status(self, message: Message) -> None:
        """A status that ends sessions is echoed (section 12.2)."""
        if message.type is MessageType.SESSION_TERMINATION or message.status is None:
            return
        if message.status >= TERMINATE_FROM:
            try:
                status = Status(message.status)
            except ValueError:
                status = Status.SHUTTING_DOWN
            raise DlepError(status, f"the modem reports status {message.status}: {message.status_text or 'no text'}")

    def _check_metrics(self, message: Message) -> None:
        """A metric has to be announced in the first message (section 12.6)."""
        for field in METRIC_FIELDS:
            if getattr(message.metrics, field) is not None and field not in self._metric_fields:
                raise DlepError(Status.INVALID_DATA, f"the modem had not announced that it would tell {field}")

    def _await_termination(self, message: Message, now: float) -> None:
        match message.type:
            case MessageType.SESSION_TERMINATION_RESPONSE:
                self.state = State.CLOSED
            case MessageType.SESSION_TERMINATION:
                self._send(Message(MessageType.SESSION_TERMINATION_RESPONSE), now)
                self.state = State.CLOSED
            case _:
                pass

    def _answer_termination(self, message: Message, now: float) -> None:
        self._send(Message(MessageType.SESSION_TERMINATION_RESPONSE), now)
        self._end(f"the modem ended the session: status {message.status}, {message.status_text or 'no text'}")

    def _terminate(self, status: Status, reason: str, now: float) -> None:
        """Nothing the modem said holds any more; the connection stays until it has answered (section 7.4)."""
        self._send(Message(MessageType.SESSION_TERMINATION, status=status, status_text=reason), now)
        self._end(reason)
        self.state = State.TERMINATING
        self._deadline = now + HEARTBEATS_TO_END * self._heartbeat_s

    def _end(self, reason: str) -> None:
        if self.state in {State.INITIALIZING, State.IN_SESSION}:
            self.destinations = Destinations()
            self._events.append(SessionEnded(reason))
        self.state = State.CLOSED

    def _send(self, message: Message, now: float) -> None:
        self._outgoing.append(pack_message(message))
        self._beat_at = now + self._heartbeat_s


def _mac(message: Message) -> bytes:
    assert message.mac is not None  # the table of data items has it as required
    return message.mac


def _unexpected(message: Message) -> DlepError:
    return DlepError(Status.UNEXPECTED_MESSAGE, f"the modem sent {message.type.name}, which was not expected")
