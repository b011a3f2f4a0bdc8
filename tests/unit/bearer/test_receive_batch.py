# SPDX-License-Identifier: Apache-2.0
"""Many datagrams with one call of the C library: what comes out, and what goes wrong."""

import errno
import socket

import pytest

from meshd.bearer.receive_batch import ReceiveBatch, find_recvmmsg


@pytest.fixture
def ends() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def test_a_turn_is_full_or_the_socket_empty(ends: tuple[socket.socket, socket.socket]) -> None:
    batch = ReceiveBatch(find_recvmmsg(), 4, 10)
    with ends[0], ends[1]:
        for data in (b"1", b"twenty bytes of them", b"", b"four", b"five"):
            ends[0].send(data)
        first = batch.receive(ends[1])
        assert first == [b"1", b"twenty byt", b"", b"four"]
        assert batch.receive(ends[1]) == [b"five"]
        assert first[0] == b"1"  # not what has come since
        with pytest.raises(BlockingIOError):
            batch.receive(ends[1])


def test_a_broken_socket_says_why(ends: tuple[socket.socket, socket.socket]) -> None:
    batch = ReceiveBatch(find_recvmmsg(), 4, 10)
    for end in ends:
        end.close()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        batch.receive(ends[1])
    assert caught.value.errno == errno.EBADF


def test_a_c_library_without_the_call_is_told_from_one_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_recvmmsg() is not None
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    assert find_recvmmsg() is None
