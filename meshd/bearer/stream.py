# SPDX-License-Identifier: Apache-2.0
"""What a connection writes to and reads from without waiting: a plain socket here, TLS in `tls.py`.

Both raise BlockingIOError when the socket must be waited for, and OSError when it is broken; `explain_loss` says what
that means.
"""

import errno
import socket
from collections.abc import Sequence
from typing import Final, Protocol

from meshd.bearer.sockets import explain

VECTOR_MAX: Final = 1024
"""Buffers in one sendmsg (IOV_MAX)."""


class ByteStream(Protocol):
    """A connected, non-blocking stream of bytes."""

    @property
    def socket(self) -> socket.socket:
        """To wait for, and to close."""

    @property
    def security(self) -> str:
        """What protects it, such as "TLSv1.3 TLS_AES_256_GCM_SHA384"; "none"."""

    def receive(self, size_max_bytes: int) -> bytes:
        """What is there; empty at the peer's end of the stream."""

    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Send a beginning of these; how much of them was taken. After BlockingIOError call again with the same."""

    def end_sending(self) -> None:
        """Tell the peer that nothing more comes; its own bytes can still be read."""

    def explain_loss(self, error: OSError) -> str:
        """What an expected error means; any other one is raised again."""


class PlainStream:
    """A socket as it is."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.security = "none"
        self.receive = sock.recv

    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """See ByteStream."""
        return self.socket.sendmsg(buffers[:VECTOR_MAX])

    def end_sending(self) -> None:
        """See ByteStream."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def explain_loss(self, error: OSError) -> str:
        """See ByteStream."""
        return explain(error)
