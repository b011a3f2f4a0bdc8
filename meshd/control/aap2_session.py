# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of one AAP 2.0 connection, as a protocol machine: bytes in, events out, answers in, bytes out.

    CONFIGURING  the Welcome is on its way, the client has to say what it wants to be within CONFIG_TIMEOUT_S
    DECIDING     it has; `accept` or `refuse` is owed
    ACTIVE       the client asks: payloads to send, keepalives
    RECEIVING    the payload of a BundleADU is arriving
    ANSWERING    it is here; `respond` is owed
    SUBSCRIBED   we ask: payloads that arrived, keepalives; the client answers each
    ENDED        nothing more is read

Between payloads, a client of the active kind that asked for keepalives has to be heard every two intervals; one that
subscribes is asked for a sign of life at each interval. One request of a client is dealt with at a time: what it sends
meanwhile waits. What administers routes and links is answered with UNAUTHORIZED and does no harm.
Who may register what, and what becomes of payloads, is left to the daemon.
"""

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final

from meshd.base.errors import LocalProtocolError
from meshd.base.limits import MESSAGE_SIZE_MAX_BYTES
from meshd.control.aap2_messages import (
    MAGIC,
    AapMessage,
    Administrative,
    BundleAdu,
    ConnectionConfig,
    Keepalive,
    Status,
    Welcome,
    decode_message_untrusted,
    decode_response_untrusted,
    encode_message,
    encode_response,
    pull_delimited,
)
from meshd.control.aap2_wire import Aap2Error

CONFIG_TIMEOUT_S: Final = 10.0
RESPONSE_TIMEOUT_S: Final = 300.0
"""So long a subscriber may take to answer for a payload: it may have to write it to its own disk."""


class SessionState(enum.Enum):
    """Where a session is in its life."""

    CONFIGURING = "configuring"
    DECIDING = "deciding"
    ACTIVE = "active"
    RECEIVING = "receiving"
    ANSWERING = "answering"
    SUBSCRIBED = "subscribed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class ConfigRequested:
    """Answer by `accept` or `refuse`."""

    config: ConnectionConfig


@dataclass(frozen=True, slots=True)
class AduBegun:
    """A payload is arriving; pieces of it follow."""

    adu: BundleAdu


@dataclass(frozen=True, slots=True)
class AduPiece:
    """The next bytes of the payload."""

    data: bytes


@dataclass(frozen=True, slots=True)
class AduEnded:
    """All of it is here. Answer by `respond`."""


@dataclass(frozen=True, slots=True)
class AduAnswered:
    """The subscriber's word about the payload that it was sent."""

    status: Status


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Nothing more comes: send what is queued, then close."""

    text: str
    is_peer_fault: bool


Event = ConfigRequested | AduBegun | AduPiece | AduEnded | AduAnswered | SessionEnded

_READS: Final = frozenset(
    (SessionState.CONFIGURING, SessionState.ACTIVE, SessionState.RECEIVING, SessionState.SUBSCRIBED)
)
"""States in which bytes of the client have a meaning; in the others they wait."""


class Aap2Session:
    """One client's connection; the shell around it owns the stream."""

    def __init__(self, node_id: str, now: float) -> None:
        """Begin at `now`, monotonic seconds."""
        self.state = SessionState.CONFIGURING
        self._output: list[bytes] = [MAGIC, encode_message(Welcome(node_id))]
        self._events: deque[Event] = deque()
        self._input = b""
        self._pos = 0
        """Of what was not read yet."""
        self._missing_bytes = 0
        """Of the payload that is arriving."""
        self._leaving_bytes = 0
        """Of the payload that is being sent."""
        self._owed: deque[type[Keepalive | BundleAdu]] = deque()
        """What the subscriber has not answered, in order."""
        self._keepalive_s = 0
        self._deadline: float | None = now + CONFIG_TIMEOUT_S

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes of the client, cut anywhere. A client's mistake never raises: it ends the session."""
        if self.state is SessionState.ENDED:
            return
        self._input = self._input[self._pos :] + data
        self._pos = 0
        self._heard(now)
        self._read(now)

    def data_to_send(self, now: float) -> bytes:
        """Bytes to write now."""
        del now
        data = b"".join(self._output)
        self._output.clear()
        return data

    def get_timer(self) -> float | None:
        """When to call `handle_timer`, or None."""
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """Ask a subscriber for a sign of life; end a session whose client is not heard."""
        if self._deadline is None or now < self._deadline:
            return
        if self.state is SessionState.SUBSCRIBED and not self._owed:
            self._output.append(encode_message(Keepalive()))
            self._owed.append(Keepalive)
            self._deadline = now + RESPONSE_TIMEOUT_S
        elif self.state is SessionState.CONFIGURING:
            self._end(f"the client did not configure its connection within {CONFIG_TIMEOUT_S:.0f} s")
        else:
            self._end("the client was not heard in time")

    def next_event(self) -> Event | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    # Answers of the daemon.

    def accept(self, config: ConnectionConfig, now: float) -> None:
        """The client is what it asked to be."""
        self._expect(SessionState.DECIDING)
        self.state = SessionState.SUBSCRIBED if config.is_subscriber else SessionState.ACTIVE
        self._keepalive_s = config.keepalive_seconds
        self._output.append(encode_response(Status.SUCCESS))
        self._heard(now)
        self._read(now)

    def refuse(self, status: Status, text: str) -> None:
        """It is not, and the session is over."""
        self._expect(SessionState.DECIDING)
        self._output.append(encode_response(status))
        self._end(text)

    def respond(self, status: Status, now: float) -> None:
        """This became of the payload that the client sent."""
        self._expect(SessionState.ANSWERING)
        self.state = SessionState.ACTIVE
        self._output.append(encode_response(status))
        self._heard(now)
        self._read(now)

    def send_adu(self, adu: BundleAdu, now: float) -> None:
        """Begin to give a subscriber a payload; `send_payload` gives its bytes. `AduAnswered` comes when it answers."""
        self._expect(SessionState.SUBSCRIBED)
        if self._leaving_bytes or BundleAdu in self._owed:
            raise LocalProtocolError("the subscriber has not answered for the last payload")
        self._output.append(encode_message(adu))
        self._owed.append(BundleAdu)
        self._leaving_bytes = adu.payload_length
        self._deadline = now + RESPONSE_TIMEOUT_S

    def send_payload(self, data: bytes, now: float) -> None:
        """The next bytes of the payload."""
        if self.state is SessionState.ENDED:
            return
        if len(data) > self._leaving_bytes:
            raise LocalProtocolError("more payload than its BundleADU announced")
        self._leaving_bytes -= len(data)
        self._output.append(data)
        self._deadline = now + RESPONSE_TIMEOUT_S

    def terminate(self, text: str) -> None:
        """End it from our side."""
        self._end(text, is_peer_fault=False)

    # What the client sent.

    def _read(self, now: float) -> None:
        try:
            while self.state in _READS and self._read_one(now):
                pass
        except Aap2Error as error:
            if self.state in (SessionState.CONFIGURING, SessionState.ACTIVE):
                self._output.append(encode_response(Status.INVALID_REQUEST))
            self._end(str(error))

    def _read_one(self, now: float) -> bool:
        """Take one message or piece; False when there is none."""
        if self.state is SessionState.RECEIVING:
            return self._take_payload()
        pulled = pull_delimited(self._input, self._pos)
        if pulled is None:
            return False
        content, self._pos = pulled
        if self.state is SessionState.SUBSCRIBED:
            self._take_response(decode_response_untrusted(content), now)
            return True
        message = decode_message_untrusted(content)
        if self.state is SessionState.CONFIGURING:
            self._take_config(message)
        else:
            self._take_request(message)
        return True

    def _take_config(self, message: AapMessage) -> None:
        if not isinstance(message, ConnectionConfig):
            raise Aap2Error("the first message of a client has to be its ConnectionConfig")
        self.state = SessionState.DECIDING
        self._deadline = None
        self._events.append(ConfigRequested(message))

    def _take_request(self, message: AapMessage) -> None:
        match message:
            case BundleAdu():
                if message.payload_length > MESSAGE_SIZE_MAX_BYTES:
                    raise Aap2Error(f"a payload of {message.payload_length} bytes; {MESSAGE_SIZE_MAX_BYTES} at most")
                self.state = SessionState.RECEIVING
                self._missing_bytes = message.payload_length
                self._deadline = None
                self._events.append(AduBegun(message))
            case Keepalive():
                self._output.append(encode_response(Status.ACK))
            case Administrative():
                self._output.append(encode_response(Status.UNAUTHORIZED))
            case _:
                raise Aap2Error(f"a {type(message).__name__} in the middle of a session")

    def _take_payload(self) -> bool:
        piece = self._input[self._pos : self._pos + self._missing_bytes]
        self._pos += len(piece)
        self._missing_bytes -= len(piece)
        if piece:
            self._events.append(AduPiece(piece))
        if not self._missing_bytes:
            self.state = SessionState.ANSWERING
            self._deadline = None
            self._events.append(AduEnded())
        return bool(piece)

    def _take_response(self, status: Status, now: float) -> None:
        if not self._owed or self._leaving_bytes:
            raise Aap2Error("a response to nothing")
        answered = self._owed.popleft()
        if answered is BundleAdu:
            self._events.append(AduAnswered(status))
        self._heard(now)

    def _heard(self, now: float) -> None:
        """The client has given a sign of life."""
        match self.state:
            case SessionState.ACTIVE:
                self._deadline = now + 2 * self._keepalive_s if self._keepalive_s else None
            case SessionState.SUBSCRIBED:
                wait_s = RESPONSE_TIMEOUT_S if self._owed else self._keepalive_s
                self._deadline = now + wait_s if wait_s else None
            case _:
                pass

    def _expect(self, state: SessionState) -> None:
        if self.state is not state:
            raise LocalProtocolError(f"not in state {self.state.value}")

    def _end(self, text: str, *, is_peer_fault: bool = True) -> None:
        if self.state is not SessionState.ENDED:
            self.state = SessionState.ENDED
            self._deadline = None
            self._input, self._pos = b"", 0
            self._events.append(SessionEnded(text, is_peer_fault))
