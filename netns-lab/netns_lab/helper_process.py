# SPDX-License-Identifier: Apache-2.0
"""A lab's helper processes (relay, sniffer) and how they are spoken to: one JSON object a packet over a
SOCK_SEQPACKET pair.

Both ends are ours; the first request configures the helper, end of file ends it, `error` in an answer becomes a
LabError.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from netns_lab.errors import LabError

MESSAGE_SIZE_MAX_BYTES: Final = 1024 * 1024
ANSWER_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 5.0
PACKAGE_FOLDER: Final = Path(__file__).resolve().parent.parent

Request = dict[str, Any]
Answer = dict[str, Any]


class HelperProcess:
    """The lab's side of one helper."""

    def __init__(self, module: str, configuration: Request) -> None:
        self._module: Final = module
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(ANSWER_TIMEOUT_S)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_SIZE_MAX_BYTES)
        self._socket: Final = ours
        with theirs:
            self._process: Final = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": str(PACKAGE_FOLDER)},
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the scenario, which then ends its helpers
            )
        self.started: Final = self._start(configuration)
        """What the helper said about itself."""

    def request(self, request: Request) -> Answer:
        """Ask and wait. LabError when the helper refuses or is gone."""
        try:
            self._socket.send(json.dumps(request).encode())
            data = self._socket.recv(MESSAGE_SIZE_MAX_BYTES)
        except OSError as error:
            raise LabError(f"helper {self._module} doesn't answer: {error}; its stderr says why") from None
        if not data:
            raise LabError(f"helper {self._module} ended with {self._process.wait(END_TIMEOUT_S)}; its stderr says why")
        answer: Answer = json.loads(data)
        if "error" in answer:
            raise LabError(f"helper {self._module}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the helper and wait for it."""
        self._socket.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_TIMEOUT_S)

    def __enter__(self) -> "HelperProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, configuration: Request) -> Answer:
        try:
            return self.request(configuration)
        except LabError:
            self.close()
            raise


def receive_request(control: socket.socket) -> Request | None:
    """Helper's side: the next request, None at the end."""
    data = control.recv(MESSAGE_SIZE_MAX_BYTES)
    if not data:
        return None
    request: Request = json.loads(data)
    return request


def answer_request(control: socket.socket, request: Request, handle: Callable[[Request], Answer]) -> None:
    """Helper's side: handle a request; a LabError or OSError goes back as the answer."""
    try:
        answer = handle(request)
    except (LabError, OSError) as error:
        answer = {"error": str(error)}
    control.send(json.dumps(answer).encode())
