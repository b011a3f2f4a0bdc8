# SPDX-License-Identifier: Apache-2.0
"""The client's side of one control session, as a protocol machine.

It numbers requests, and turns the daemon's bytes into responses and notifications. It keeps no deadlines: how long an
answer may take is left to the client around it. The daemon is trusted no further than its frames: what can't be read
ends the session with FrameError, raised by `receive_data` and by every later call.
"""

from collections import deque
from typing import Any

from meshd.base.errors import LocalProtocolError
from meshd.base.version import CONTROL_VERSION
from meshd.control.errors import ControlError, FrameError
from meshd.control.frames import (
    FrameReader,
    Notification,
    Request,
    Response,
    decode_message_untrusted,
    encode_frame,
)

ClientEvent = Response | Notification


class ClientSession:
    """One session with a daemon; the client around it owns the stream."""

    def __init__(self, client: str) -> None:
        """Begin with `hello` queued, under ID 0; `client` is a name for the daemon's journal."""
        self._reader = FrameReader()
        self._events: deque[ClientEvent] = deque()
        self._waiting: set[int] = set()
        self._next_id = 0
        self._output = bytearray()
        self._failure: FrameError | None = None
        self.hello_id = self.request("hello", {"version": CONTROL_VERSION, "client": client})

    def request(self, method: str, params: dict[str, Any]) -> int:
        """Queue a request and return its ID. Raises ControlError `bad_params` for what can't be sent."""
        self._raise_failure()
        request_id = self._next_id
        try:
            self._output += encode_frame(Request(request_id, method, params))
        except FrameError as error:
            raise ControlError("bad_params", f"{method}: {error}") from error
        self._next_id += 1
        self._waiting.add(request_id)
        return request_id

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the daemon. Raises FrameError when they are not this protocol."""
        self._raise_failure()
        try:
            self._reader.receive_data(data)
            while (payload := self._reader.next_payload()) is not None:
                self._handle_payload(payload)
        except FrameError as error:
            self._failure = error
            raise

    def next_event(self) -> ClientEvent | None:
        """Return the next response or notification in order, None when there is none."""
        return self._events.popleft() if self._events else None

    def data_to_send(self, now: float) -> bytes:
        """Return bytes for the daemon and forget them; empty when there are none."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def get_timer(self) -> float | None:
        """This side keeps no deadlines."""
        return None

    def handle_timer(self, now: float) -> None:
        """Nothing to do: there is no timer."""
        raise LocalProtocolError("the client's session has no timer")

    def _handle_payload(self, payload: bytes) -> None:
        message = decode_message_untrusted(payload)
        match message:
            case Response(id=None):
                self._events.append(message)
            case Response(id=int(response_id)):
                if response_id not in self._waiting:
                    raise FrameError(f"the daemon answered request {response_id}, which nobody asked")
                self._waiting.discard(response_id)
                self._events.append(message)
            case Notification():
                self._events.append(message)
            case _:
                raise FrameError("the daemon sent a request; it may only answer and notify")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
