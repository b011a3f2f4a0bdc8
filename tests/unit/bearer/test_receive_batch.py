# SPDX-License-Identifier: Apache-2.0
"""Many datagrams with one call of the C library: what comes out, and what goes wrong."""

import contextlib
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


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_each_comes_with_the_address_that_it_came_from(family: int, host: str) -> None:
    batch = ReceiveBatch(find_recvmmsg(), 8, 10, has_sources=True)
    with contextlib.ExitStack() as stack:
        here, *others = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(4)]
        for each in (here, *others):
            each.bind((host, 0))
        for _ in range(2):
            for each in others:
                each.sendto(b"from me", here.getsockname())
            datagrams, sources = batch.receive_from(here)
            assert datagrams == [b"from me"] * 3
            assert list(sources) == [each.getsockname() for each in others]
            assert sources[-1:] == [others[-1].getsockname()]


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
