# SPDX-License-Identifier: Apache-2.0
"""Who connected, and which roles that gives."""

import errno
import os
import pwd
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from meshd.control.roles import Rights, Role
from meshd.daemon.control_peer import SO_PEERGROUPS, Peer, RoleGids, find_peer, groups_of, rights_of

ALL = RoleGids(operator=77, viewer=70, security=78, admin=79, breaks=80)


def peer(*groups: int, uid: int = 60) -> Peer:
    return Peer(1, uid, 6, frozenset((6, *groups)))


@pytest.mark.parametrize(
    ("who", "roles", "may_break"),
    [
        (peer(uid=0), {Role.ADMIN}, True),
        (peer(uid=50), {Role.ADMIN}, True),
        (peer(79), {Role.ADMIN}, True),
        (peer(), set(), False),
        (peer(70), {Role.VIEWER}, False),
        (peer(77), {Role.OPERATOR}, False),
        (peer(77, 80), {Role.OPERATOR}, True),
        (peer(80), set(), False),
        (peer(70, 77, 78), {Role.VIEWER, Role.OPERATOR, Role.SECURITY}, False),
    ],
)
def test_groups_give_roles(who: Peer, roles: set[Role], may_break: bool) -> None:
    assert rights_of(who, ALL, daemon_uid=50) == Rights(frozenset(roles), may_break)


def test_without_other_groups_whoever_opens_the_socket_may_look_and_its_group_may_order() -> None:
    gids = RoleGids(operator=77)
    assert rights_of(peer(), gids, daemon_uid=50) == Rights(frozenset((Role.VIEWER,)))
    assert rights_of(peer(77), gids, daemon_uid=50) == Rights(frozenset((Role.VIEWER, Role.OPERATOR)))


def test_a_user_whom_nobody_knows_has_the_primary_group() -> None:
    assert groups_of(3_999_999, 12345) == [12345]


class FakeSocket:
    """Says what the kernel would."""

    def __init__(self, groups: bytes | OSError) -> None:
        self._groups = groups

    def getsockopt(self, level: int, option: int, buffersize: int, /) -> bytes:
        if option == socket.SO_PEERCRED:
            return struct.pack("3i", 9, 3_999_999, 12345)
        assert option == SO_PEERGROUPS
        if isinstance(self._groups, OSError):
            raise self._groups
        return self._groups


def test_the_groups_of_the_process_count() -> None:
    found = find_peer(FakeSocket(struct.pack("2I", 4_000_000_000, 5)))
    assert found == Peer(9, 3_999_999, 12345, frozenset((12345, 5, 4_000_000_000)), None)


def test_where_the_kernel_does_not_tell_them_those_of_the_user_do() -> None:
    assert find_peer(FakeSocket(OSError(errno.ERANGE, "too many"))).groups == {12345}
    with pytest.raises(OSError, match="bad"):
        find_peer(FakeSocket(OSError(errno.EBADF, "bad")))


def test_the_kernel_names_this_process() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        found = find_peer(ours)
    assert (found.pid, found.uid) == (os.getpid(), os.getuid())
    assert found.name == pwd.getpwuid(os.getuid()).pw_name
    assert found.groups == {os.getgid(), *os.getgroups()}


_WITH_GROUPS = """
import os, socket, sys
os.chdir(sys.argv[1])
os.setgroups([4141, 4242]); os.setgid(65534); os.setuid(65534)
client = socket.socket(socket.AF_UNIX); client.connect("s")
client.recv(1)
"""


@pytest.mark.root
def test_groups_that_the_user_database_does_not_know_of(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        (tmp_path / "s").chmod(0o666)
        tmp_path.chmod(0o711)
        listener.listen()
        listener.settimeout(20)
        with subprocess.Popen([sys.executable, "-c", _WITH_GROUPS, str(tmp_path)]) as process:
            connection, _ = listener.accept()
            with connection:
                found = find_peer(connection)
            assert process.wait(20) == 0
    assert (found.pid, found.uid, found.groups) == (process.pid, 65534, frozenset((65534, 4141, 4242)))
