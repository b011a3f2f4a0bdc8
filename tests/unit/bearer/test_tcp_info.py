# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a TCP connection, on the loopback device."""

import socket

from meshd.bearer.tcp_info import TcpInfo, read_tcp_info

SIZE_BYTES = 100_000


def test_acknowledged_bytes_and_the_round_trip_are_read() -> None:
    with socket.socket() as listener, socket.socket() as sock:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sock.connect(listener.getsockname())
        peer, _ = listener.accept()
        with peer:
            sock.sendall(bytes(SIZE_BYTES))
            left = SIZE_BYTES
            while left:
                left -= len(peer.recv(left))
            info = read_tcp_info(sock)
    assert info is not None
    # The SYN counts; the last acknowledgement may be on its way.
    assert SIZE_BYTES // 2 <= info.acked_bytes <= SIZE_BYTES + 1
    assert 0 < info.min_rtt_us < 1_000_000
    assert info.last_heard_ms < 10_000
    assert info.retransmits == 0


def test_a_closed_socket_says_nothing() -> None:
    sock = socket.socket()
    sock.close()
    assert read_tcp_info(sock) is None


def test_a_rate_sample_is_full_unless_the_kernel_says_so() -> None:
    assert TcpInfo(0, 0, 0, 0, 0, 0, 0).is_full
    assert not TcpInfo(0, 1, 0, 0, 0, 0, 0).is_full
