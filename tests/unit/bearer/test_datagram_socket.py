# SPDX-License-Identifier: Apache-2.0
"""UDP sockets of a bearer on the loopback device: where they listen, what is lost and what is broken."""

import contextlib
import dataclasses
import errno
import os
import select
import socket
import subprocess
from collections.abc import Iterator

import pytest

import meshd.bearer.datagram_socket
from meshd.bearer.datagram_socket import (
    RECEIVE_MIN_BYTES,
    SEGMENTS_MAX,
    SEGMENTS_MAX_BYTES,
    TURN_DATAGRAMS,
    DatagramSocket,
    split_runs,
)
from meshd.bearer.sockets import Address, BearerError, parse_address
from tests.lab.gate_netns import inside, new_namespace
from tests.unit.bearer.fountain_peers import free_ports, radio_settings


def make_socket(listen: str = "127.0.0.1:0", device: str = "lo") -> DatagramSocket:
    return DatagramSocket(dataclasses.replace(radio_settings(listen=listen), device=device))


def place_of(sock: DatagramSocket) -> Address:
    return parse_address(sock.bound_address)[1]


class Failing:
    """A socket of which one call fails."""

    def __init__(self, number: int) -> None:
        self.number = number

    def sendto(self, data: bytes, to: Address) -> int:
        raise OSError(self.number, "injected")

    def sendmsg(self, parts: list[bytes], control: object, flags: int, to: Address) -> int:
        raise OSError(self.number, "injected")

    def recv(self, size: int) -> bytes:
        raise OSError(self.number, "injected")

    def close(self) -> None:
        pass


@pytest.fixture(params=["recvmmsg", "recv"])
def _way_to_receive(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways: many with one call, and where the C library has no such call."""
    if request.param == "recv":
        monkeypatch.setattr(meshd.bearer.datagram_socket, "find_recvmmsg", lambda: None)


@pytest.fixture
def pair(_way_to_receive: None) -> Iterator[tuple[DatagramSocket, DatagramSocket]]:
    """A sender and a receiver."""
    with contextlib.closing(make_socket()) as sender, contextlib.closing(make_socket()) as receiver:
        yield sender, receiver


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.usefixtures("_way_to_receive")
def test_datagrams_come_in_turns(host: str) -> None:
    with (
        contextlib.closing(make_socket(f"{host}:0")) as sender,
        contextlib.closing(make_socket(f"{host}:0")) as receiver,
    ):
        sent = [number.to_bytes(2) for number in range(TURN_DATAGRAMS + 5)]
        assert sender.send(sent, place_of(receiver)) == (0, "")
        assert receiver.receive() == sent[:TURN_DATAGRAMS]
        assert receiver.receive() == sent[TURN_DATAGRAMS:]
        assert receiver.receive() == []


def test_datagrams_of_any_size_keep_their_order_and_their_ends(pair: tuple[DatagramSocket, DatagramSocket]) -> None:
    sender, receiver = pair
    sizes = [1, 1400, 1400, 1400, 7, 7, 9000, 9000, 1, 2]
    sent = [bytes([number]) * size for number, size in enumerate(sizes)]
    assert sender.send(sent, place_of(receiver)) == (0, "")
    assert receiver.receive() == sent


def test_what_is_larger_than_any_datagram_of_a_neighbour_is_cut_short(
    pair: tuple[DatagramSocket, DatagramSocket],
) -> None:
    sender, receiver = pair
    assert sender.send([bytes(RECEIVE_MIN_BYTES + 1), b"next"], place_of(receiver)) == (0, "")
    assert receiver.receive() == [bytes(RECEIVE_MIN_BYTES), b"next"]


class Counting:
    """A socket that notes how many parts each call takes, and refuses to cut any apart if told so."""

    def __init__(self, sock: socket.socket, number: int = 0) -> None:
        self._sock = sock
        self._number = number
        self.calls: list[int] = []

    def sendto(self, data: bytes, to: Address) -> int:
        self.calls.append(1)
        return self._sock.sendto(data, to)

    def sendmsg(self, parts: list[bytes], control: list[tuple[int, int, bytes]], flags: int, to: Address) -> int:
        if self._number:
            raise OSError(self._number, "injected")
        self.calls.append(len(parts))
        return self._sock.sendmsg(parts, control, flags, to)

    def close(self) -> None:
        self._sock.close()


@pytest.mark.parametrize(("number", "calls"), [(0, [3, 1]), (errno.EIO, [1, 1, 1, 1]), (errno.EINVAL, [1, 1, 1, 1])])
def test_datagrams_of_one_size_leave_with_one_call_where_the_kernel_can(
    number: int, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(make_socket()) as sender, contextlib.closing(make_socket()) as receiver:
        counting = Counting(sender.socket, number)
        monkeypatch.setattr(sender, "socket", counting)
        sent = [b"one", b"two", b"3", b"four"]
        for _ in range(2):
            assert sender.send(sent, place_of(receiver)) == (0, "")
            assert receiver.receive() == sent
        assert counting.calls == 2 * calls


def test_a_call_takes_no_more_than_the_kernel_does() -> None:
    for size in (1, 1400, 9000):
        sent = [number.to_bytes(2).ljust(size)[:size] for number in range(200)]
        runs = list(split_runs(sent))
        assert [each for run in runs for each in run] == sent
        assert max(len(run) for run in runs) == min(SEGMENTS_MAX, SEGMENTS_MAX_BYTES // size)
    assert list(split_runs([])) == []


def test_a_group_is_heard_within_one_hop() -> None:
    (port,) = (address.rpartition(":")[2] for address in free_ports(1))
    settings = radio_settings(group=f"239.255.77.2:{port}")
    first, second = DatagramSocket(settings), DatagramSocket(settings)
    try:
        assert first.send([b"to all"], None) == (0, "")
        second.socket.settimeout(5)
        assert second.socket.recv(100) == b"to all"
        assert first.socket.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 1
    finally:
        first.close()
        second.close()


@pytest.mark.root
@pytest.mark.programs("ip")
@pytest.mark.parametrize("group", ["239.255.77.2:4557", "[ff02::4d:2]:4557"])
def test_a_group_reaches_the_other_end_of_a_wire_and_nobody_here(group: str) -> None:
    settings = dataclasses.replace(radio_settings(group=group), device="rad0")
    with contextlib.ExitStack() as stack:
        spaces = make_wire(stack)
        sockets = []
        for space in spaces:
            with inside(space):
                sockets.append(DatagramSocket(settings))
            stack.callback(sockets[-1].close)
        assert send_until_heard(*sockets) == b"to all"
        assert sockets[0].receive() == []


def send_until_heard(sender: DatagramSocket, receiver: DatagramSocket) -> bytes:
    """The kernel takes a second or so until it calls a new wire ready; what is sent before is lost."""
    for _ in range(200):
        sender.send([b"to all"], None)
        if select.select([receiver.socket], [], [], 0.05)[0]:
            return receiver.socket.recv(100)
    return b""


def make_wire(stack: contextlib.ExitStack) -> list[int]:
    """Two namespaces with a `rad0` each."""
    spaces = [new_namespace(), new_namespace()]
    for space in spaces:
        stack.callback(os.close, space)
    link = f"ip link add rad0 type veth peer name rad0 netns /proc/self/fd/{spaces[1]}"
    with inside(spaces[0]):
        subprocess.run(link.split(), check=True, pass_fds=[spaces[1]])
    for number, space in enumerate(spaces):
        with inside(space):
            for command in (
                f"address add 10.96.0.{number + 1}/24 dev rad0",
                f"address add fd96::{number + 1}/64 dev rad0 nodad",
                "link set rad0 addrgenmode none",
                "link set rad0 up",
            ):
                subprocess.run(["ip", *command.split()], check=True)
    return spaces


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EPERM, errno.EHOSTUNREACH, errno.EMSGSIZE])
def test_a_datagram_that_does_not_leave_is_lost_with_its_reason(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sock = make_socket()
    sock.close()
    monkeypatch.setattr(sock, "socket", Failing(number))
    lost, reason = sock.send([b"x", b"x", b"long"], ("127.0.0.1", 9))
    assert lost == 3
    assert errno.errorcode[number] in reason


def test_a_device_that_is_gone_breaks_the_socket_and_a_fault_of_ours_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sock = make_socket()
    sock.close()
    monkeypatch.setattr(sock, "socket", Failing(errno.ENETDOWN))
    with pytest.raises(BearerError, match="has lost its socket: the device is down"):
        sock.send([b"x"], ("127.0.0.1", 9))
    monkeypatch.setattr(sock, "_batch", None)
    with pytest.raises(BearerError, match="has lost its socket"):
        sock.receive()
    monkeypatch.setattr(sock, "socket", Failing(errno.EBADF))
    with pytest.raises(OSError, match="injected"):
        sock.send([b"x"], ("127.0.0.1", 9))


def test_it_knows_when_its_device_was_made_anew() -> None:
    sock = make_socket()
    try:
        assert sock.is_current("lo")
        assert not sock.is_current("nowhere0")
    finally:
        sock.close()


def test_what_can_not_be_listened_on_is_named() -> None:
    with pytest.raises(BearerError, match=r"can't listen on 192\.0\.2\.1:9: the address is not one of this host's"):
        make_socket("192.0.2.1:9")
    with pytest.raises(BearerError, match="can't use its device nowhere0"):
        make_socket(device="nowhere0")
