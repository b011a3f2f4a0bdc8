# SPDX-License-Identifier: Apache-2.0
"""What the kernel knows of a TCP connection: TCP_INFO, as far as a link's score and its death need it."""

import socket
import struct
from typing import Final, NamedTuple

_SIZE_BYTES: Final = 176
"""Up to tcpi_busy_time, which Linux has since 4.10."""
_FIELDS: Final = struct.Struct("=2xB4xB16xI28xI60xQ20xI16xQ")
"""retransmits, flags of the rate sample, unacked, last_ack_recv, bytes_acked, min_rtt, busy_time (linux/tcp.h)."""
_APP_LIMITED: Final = 1


class TcpInfo(NamedTuple):
    """One look at a connection."""

    retransmits: int
    """Time-outs in a row without an acknowledgement."""
    flags: int
    unacked: int
    """Segments under way."""
    last_heard_ms: int
    """Since anything came from the peer's kernel."""
    acked_bytes: int
    min_rtt_us: int
    """The least round trip of the last minutes."""
    busy_us: int
    """Time in which something was under way, or waited to be."""

    @property
    def is_full(self) -> bool:
        """There was always something to send when the kernel measured its rate."""
        return not self.flags & _APP_LIMITED


def read_tcp_info(sock: socket.socket) -> TcpInfo | None:
    """None: the connection is gone, or the kernel knows less."""
    try:
        data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE_BYTES)
    except OSError:
        return None
    return TcpInfo(*_FIELDS.unpack(data)) if len(data) >= _SIZE_BYTES else None
