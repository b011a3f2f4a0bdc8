# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a control session, and which roles the kernel's word about it gives.

SO_PEERCRED names the process that connected and SO_PEERGROUPS its groups, both as the kernel saw them then; no client
can claim others. Where the kernel does not tell the groups (too many of them, or a kernel before 4.13), those of the
user count. Root and the daemon's own user are admins.
"""

import errno
import os
import pwd
import socket
import struct
from dataclasses import dataclass
from typing import Final, Protocol

from meshd.control.roles import Rights, Role

ROOT_UID: Final = 0
SO_PEERGROUPS: Final = 59
"""Of Linux (asm-generic, which x86-64 and aarch64 use); the socket module has no name for it."""
GROUPS_SIZE_MAX_BYTES: Final = 1024
"""Of the buffer for a process's groups, which Python bounds: 256 of them."""
_UCRED: Final = struct.Struct("3i")
_NO_GROUPS: Final = frozenset((errno.ERANGE, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENODATA))


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that opened a session, with its groups (the primary one included) and its user's name, if any."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class RoleGids:
    """Which Unix group gives which role; None: no group does. `viewer` None: everybody is one."""

    operator: int
    viewer: int | None = None
    security: int | None = None
    admin: int | None = None
    breaks: int | None = None


class PeerSocket(Protocol):
    """What is asked of an accepted socket."""

    def getsockopt(self, level: int, option: int, buffersize: int, /) -> bytes: ...


def find_peer(connection: PeerSocket) -> Peer:
    """Ask the kernel who connected. May block on the system's user database."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    groups = _process_groups(connection)
    found = groups_of(uid, gid) if groups is None else [gid, *groups]
    return Peer(pid, uid, gid, frozenset(found), _user_name(uid))


def groups_of(uid: int, gid: int) -> list[int]:
    """Return the groups of a user; a user whom the system does not know has only the primary group."""
    name = _user_name(uid)
    return [gid] if name is None else os.getgrouplist(name, gid)


def rights_of(peer: Peer, gids: RoleGids, daemon_uid: int) -> Rights:
    """The roles of whoever connected."""
    if peer.uid in {ROOT_UID, daemon_uid} or gids.admin in peer.groups:
        return Rights(frozenset((Role.ADMIN,)), may_break=True)
    roles = set()
    if gids.viewer is None or gids.viewer in peer.groups:
        roles.add(Role.VIEWER)
    if gids.operator in peer.groups:
        roles.add(Role.OPERATOR)
    if gids.security in peer.groups:
        roles.add(Role.SECURITY)
    return Rights(frozenset(roles), may_break=Role.OPERATOR in roles and gids.breaks in peer.groups)


def _process_groups(connection: PeerSocket) -> list[int] | None:
    """The supplementary groups of the process that connected; None: the kernel does not say."""
    try:
        data = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_SIZE_MAX_BYTES)
    except OSError as error:
        if error.errno not in _NO_GROUPS:
            raise
        return None
    return [gid for (gid,) in struct.iter_unpack("I", data)]


def _user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
