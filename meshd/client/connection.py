# SPDX-License-Identifier: Apache-2.0
"""A blocking connection to the daemon: a UNIX socket around the client's session machine.

Several requests may be on their way at once (`start`, then `finish` in any order); answers that come early are kept.
Everything has a deadline. A connection that failed or timed out in the middle stays closed: what was asked may or may
not have been done, and the caller decides whether asking again is safe.
"""

import math
import os
import select
import socket
import time
from collections import deque
from typing import Any, Final

from meshd.client.errors import DaemonUnreachable, ReplyTimeout
from meshd.control.client_session import ClientSession
from meshd.control.errors import ControlError, FrameError, error_from_wire
from meshd.control.frames import Notification, Response

DEFAULT_SOCKET: Final = "/run/meshd/control.sock"
SOCKET_VARIABLE: Final = "MESHD_SOCKET"
CONNECT_TIMEOUT_S: Final = 5.0
RECEIVE_MAX_BYTES: Final = 64 * 1024
"""At a time; above 128 KiB every call would have the kernel map new memory."""
NOTIFICATIONS_KEPT_MAX: Final = 4096
"""Notifications that come while an answer is awaited; above it the oldest go (the daemon's `seq` shows the gap)."""


def default_socket() -> str:
    """Where the daemon listens: $MESHD_SOCKET, or the system's place."""
    return os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET


class Connection:
    """One open session. Not for use by several threads at once."""

    def __init__(self, path: str, client_name: str, timeout_s: float) -> None:
        """Connect and say hello.

        Raises:
          DaemonUnreachable: nobody listens there.
          ControlError: `unauthorised` when the socket may not be opened, `unsupported_version`.
          ReplyTimeout: no answer to hello.
        """
        self.path = path
        self._machine = ClientSession(client_name)
        self._answers: dict[int, Response] = {}
        self._notifications: deque[Notification] = deque(maxlen=NOTIFICATIONS_KEPT_MAX)
        self._socket = _connect(path)
        self._poll = select.poll()
        self._poll.register(self._socket)
        try:
            self._flush(time.monotonic() + timeout_s)
            self.hello: dict[str, Any] = self.finish(self._machine.hello_id, timeout_s)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the session; the daemon drops what it held. May be called again."""
        self._socket.close()

    def start(self, method: str, params: dict[str, Any], timeout_s: float) -> int:
        """Send a request and return its ID for `finish`."""
        request_id = self._machine.request(method, params)
        self._flush(time.monotonic() + timeout_s)
        return request_id

    def finish(self, request_id: int, timeout_s: float | None) -> Any:
        """Wait for the answer to a request and return its result. Raises ControlError when it is an error."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while request_id not in self._answers:
            if not self._receive(deadline):
                self.close()
                raise ReplyTimeout(f"meshd at {self.path} did not answer within {timeout_s:g} seconds")
        answer = self._answers.pop(request_id)
        if answer.error is not None:
            raise error_from_wire(answer.error)
        return answer.result

    def next_notification(self, timeout_s: float | None) -> Notification | None:
        """Wait for a notification; None when none came in time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._notifications:
            if not self._receive(deadline):
                return None
        return self._notifications.popleft()

    def _flush(self, deadline: float) -> None:
        data = self._machine.data_to_send(time.monotonic())
        try:
            while data := data[self._send(data) :]:
                if not self._wait(select.POLLOUT, deadline):
                    self.close()
                    raise ReplyTimeout(f"meshd at {self.path} takes no data")
        except OSError as error:
            self._raise_last_words()
            raise self._broken(error) from error

    def _send(self, data: bytes) -> int:
        """Without waiting; how much of it the socket took. Errors: OSError."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def _wait(self, events: int, deadline: float | None) -> bool:
        """Until the socket can be written or read (or is broken, which that tells); False: not before the deadline."""
        remaining_s = None if deadline is None else deadline - time.monotonic()
        if remaining_s is not None and remaining_s <= 0:
            return False
        self._poll.modify(self._socket, events)
        return bool(self._poll.poll(None if remaining_s is None else math.ceil(remaining_s * 1000)))

    def _receive(self, deadline: float | None) -> bool:
        """Take what the daemon has sent, or wait for it; False when it sent nothing before the deadline."""
        if deadline is not None and time.monotonic() >= deadline:
            return False
        try:
            data = self._socket.recv(RECEIVE_MAX_BYTES)
        except BlockingIOError:
            return self._wait(select.POLLIN, deadline)
        except OSError as error:
            raise self._broken(error) from error
        if not data:
            self.close()
            raise DaemonUnreachable(f"meshd at {self.path} closed the session; it may be restarting")
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        try:
            self._machine.receive_data(data, time.monotonic())
        except FrameError as error:
            self.close()
            raise DaemonUnreachable(f"what answers at {self.path} does not speak meshd's protocol: {error}") from error
        while (event := self._machine.next_event()) is not None:
            if isinstance(event, Notification):
                self._notifications.append(event)
            elif event.id is None:
                self.close()
                raise error_from_wire(event.error or {})
            else:
                self._answers[event.id] = event

    def _raise_last_words(self) -> None:
        """A daemon that hung up may have said why before: raise that instead."""
        try:
            self._take(self._socket.recv(RECEIVE_MAX_BYTES))
        except OSError:
            return

    def _broken(self, error: OSError) -> DaemonUnreachable:
        self.close()
        return DaemonUnreachable(f"the session with meshd at {self.path} broke: {error.strerror or error}")


def _connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.connect(path)
    except PermissionError as error:
        connection.close()
        raise ControlError(
            "unauthorised", f"you may not open {path}: the socket is for root and the members of its group"
        ) from error
    except OSError as error:
        connection.close()
        reason = "it does not answer" if isinstance(error, TimeoutError) else error.strerror or error
        raise DaemonUnreachable(
            f"meshd can't be reached at {path}: {reason}; is it running? (systemctl status meshd; --socket or"
            f" ${SOCKET_VARIABLE} name another socket)"
        ) from error
    connection.setblocking(False)
    return connection
