# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of one control session, as a protocol machine.

Bytes go in, requests come out; responses and notifications go in, bytes come out. A session has three states:

    GREETING  only `hello` is answered; it has to come within HELLO_TIMEOUT_S
    OPEN      requests become events, each already checked against the table of methods
    ENDED     nothing more is read; what is queued may still be sent

What a client asks wrongly (unknown method, bad parameter, one request too many) is answered here and does not end the
session. What can't be read does: there is no way to find the next frame. So does a client that does not read: its
output queue has a limit, and a response above it ends the session. A notification never does; it is refused
(`notify` returns False), and who sends them counts what was lost.
Who may call what, and what a method does, is left to the daemon.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from meshd.base.limits import CONTROL_FRAME_MAX_BYTES
from meshd.control.errors import ControlError, FrameError
from meshd.control.frames import (
    FrameReader,
    Notification,
    Request,
    Response,
    decode_message_untrusted,
    encode_frame,
)
from meshd.control.methods import METHODS, SUPPORTED_VERSIONS
from meshd.control.params import check_params

HELLO_TIMEOUT_S: Final = 10.0
REQUESTS_IN_FLIGHT_MAX: Final = 32
REQUEST_DATA_MAX_BYTES: Final = 8 * 1024 * 1024
"""Above this in unanswered requests the session asks for no more bytes (`wants_data`): back-pressure for senders."""
OUTPUT_QUEUE_MAX_BYTES: Final = 8 * 1024 * 1024
NOTIFICATION_QUEUE_MAX_BYTES: Final = 1024 * 1024
"""Notifications are refused above this, so that they leave room for responses."""
OUTPUT_PIECE_MAX_BYTES: Final = 256 * 1024
"""`data_to_send` joins small frames up to this; one larger frame goes alone."""


class SessionState(Enum):
    """Where a session is in its life."""

    GREETING = "greeting"
    OPEN = "open"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class HelloInfo:
    """What the answer to `hello` tells about the daemon."""

    node: str
    daemon_version: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session is over: send what is queued unless `overrun`, then close the stream."""

    error: ControlError


ServerEvent = Request | SessionEnded


class ServerSession:
    """One client's session; the shell around it owns the stream."""

    def __init__(self, hello: HelloInfo, now: float, output_queue_max_bytes: int = OUTPUT_QUEUE_MAX_BYTES) -> None:
        """Begin in GREETING at `now`, monotonic seconds."""
        self.state = SessionState.GREETING
        self.client = ""
        self._hello = hello
        self._hello_deadline: float | None = now + HELLO_TIMEOUT_S
        self._reader = FrameReader()
        self._events: deque[ServerEvent] = deque()
        self._in_flight: dict[int, int] = {}
        self._in_flight_bytes = 0
        self._output: deque[bytes] = deque()
        self._output_bytes = 0
        self._output_queue_max_bytes = output_queue_max_bytes

    @property
    def wants_data(self) -> bool:
        """False while the unanswered requests hold so much that the shell should leave bytes in the socket."""
        return self.state is not SessionState.ENDED and self._in_flight_bytes < REQUEST_DATA_MAX_BYTES

    @property
    def output_bytes(self) -> int:
        """Bytes that wait for `data_to_send`."""
        return self._output_bytes

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the client; `next_event` tells what they mean."""
        if self.state is SessionState.ENDED:
            return
        try:
            self._reader.receive_data(data)
            while (payload := self._next_payload()) is not None:
                self._handle_payload(payload)
        except FrameError as error:
            self.end(ControlError("bad_frame", str(error)))

    def next_event(self) -> ServerEvent | None:
        """Return the next event in order, None when there is none."""
        return self._events.popleft() if self._events else None

    def data_to_send(self, now: float) -> bytes:
        """Return bytes for the client and forget them; empty when there are none."""
        if not self._output:
            return b""
        pieces = [self._output.popleft()]
        size_bytes = len(pieces[0])
        while self._output and size_bytes + len(self._output[0]) <= OUTPUT_PIECE_MAX_BYTES:
            pieces.append(self._output.popleft())
            size_bytes += len(pieces[-1])
        self._output_bytes -= size_bytes
        return b"".join(pieces) if len(pieces) > 1 else pieces[0]

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called, None for never."""
        return self._hello_deadline

    def handle_timer(self, now: float) -> None:
        """End a session that has not said hello in time."""
        if self._hello_deadline is not None and now >= self._hello_deadline:
            self.end(ControlError("hello_required", f"no hello within {HELLO_TIMEOUT_S:.0f} seconds"))

    def respond(self, request_id: int, result: Any) -> None:
        """Answer a request. A result above the limit of a frame is answered with `too_large` instead."""
        if not self._take_in_flight(request_id):
            return
        try:
            frame = encode_frame(Response(request_id, None, result))
        except FrameError as error:
            self._queue_error(request_id, ControlError("too_large", f"the answer is too large: {error}"))
            return
        self._queue(frame)

    def respond_error(self, request_id: int, error: ControlError) -> None:
        """Answer a request with an error."""
        if self._take_in_flight(request_id):
            self._queue_error(request_id, error)

    def notify(self, method: str, params: dict[str, Any]) -> bool:
        """Queue a notification. False: there is no room (or no session any more), and it is lost."""
        if self.state is not SessionState.OPEN:
            return False
        frame = encode_frame(Notification(method, params))
        if self._output_bytes + len(frame) > min(NOTIFICATION_QUEUE_MAX_BYTES, self._output_queue_max_bytes):
            return False
        self._queue(frame)
        return True

    def end(self, error: ControlError) -> None:
        """End the session and tell the client why, if it reads at all."""
        if self.state is SessionState.ENDED:
            return
        frame = encode_frame(Response(None, error.to_wire(), None))
        if error.name != "overrun":
            self._output.append(frame)
            self._output_bytes += len(frame)
        else:
            self._output.clear()
            self._output_bytes = 0
        self.state = SessionState.ENDED
        self._hello_deadline = None
        self._events.append(SessionEnded(error))

    def _next_payload(self) -> bytes | None:
        return None if self.state is SessionState.ENDED else self._reader.next_payload()

    def _handle_payload(self, payload: bytes) -> None:
        message = decode_message_untrusted(payload)
        if not isinstance(message, Request):
            self.end(ControlError("bad_request", "a client may send requests only"))
            return
        if message.id in self._in_flight:
            self.end(ControlError("bad_request", f"request ID {message.id} is in use by an unanswered request"))
            return
        if len(self._in_flight) >= REQUESTS_IN_FLIGHT_MAX:
            self._queue_error(
                message.id,
                ControlError("bad_request", f"more than {REQUESTS_IN_FLIGHT_MAX} requests wait for an answer"),
            )
            return
        self._in_flight[message.id] = len(payload)
        self._in_flight_bytes += len(payload)
        try:
            self._handle_request(message)
        except ControlError as error:
            self.respond_error(message.id, error)

    def _handle_request(self, request: Request) -> None:
        if request.method == "hello":
            self._handle_hello(request)
            return
        if self.state is SessionState.GREETING:
            raise ControlError("hello_required", "the first request has to be hello, with the version you speak")
        spec = METHODS.get(request.method)
        if spec is None:
            raise ControlError("unknown_method", f"there is no method {request.method[:80]!r}; see introspect")
        params = check_params(spec.name, spec.params, request.params)
        self._events.append(Request(request.id, request.method, params))

    def _handle_hello(self, request: Request) -> None:
        if self.state is SessionState.OPEN:
            raise ControlError("bad_request", "hello was said already")
        version = request.params.get("version")
        if isinstance(version, int) and version not in SUPPORTED_VERSIONS:
            supported = ", ".join(map(str, SUPPORTED_VERSIONS))
            raise ControlError(
                "unsupported_version",
                f"version {version} of the control protocol is not supported; this daemon speaks: {supported}",
                {"supported": list(SUPPORTED_VERSIONS)},
            )
        params = check_params("hello", METHODS["hello"].params, request.params)
        self.client = params["client"]
        self.state = SessionState.OPEN
        self._hello_deadline = None
        self.respond(
            request.id,
            {
                "version": params["version"],
                "node": self._hello.node,
                "daemon_version": self._hello.daemon_version,
                "methods": list(METHODS),
                "max_frame_bytes": CONTROL_FRAME_MAX_BYTES,
            },
        )

    def _take_in_flight(self, request_id: int) -> bool:
        """Forget the request; False when the session has ended and nobody waits for the answer."""
        size_bytes = self._in_flight.pop(request_id)
        self._in_flight_bytes -= size_bytes
        return self.state is not SessionState.ENDED

    def _queue_error(self, request_id: int, error: ControlError) -> None:
        self._queue(encode_frame(Response(request_id, error.to_wire(), None)))

    def _queue(self, frame: bytes) -> None:
        if self._output_bytes + len(frame) > self._output_queue_max_bytes:
            limit = self._output_queue_max_bytes
            self.end(ControlError("overrun", f"the client leaves more than {limit} bytes unread"))
            return
        self._output.append(frame)
        self._output_bytes += len(frame)
