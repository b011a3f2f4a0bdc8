# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a control session, and what the kernel's word about it permits.

SO_PEERCRED names the process that connected, as the kernel saw it then; no client can claim another.
Everybody who can open the socket may read; what changes something is for root, the daemon's own user and the members
of the socket's group.
"""

import os
import pwd
import struct
from dataclasses import dataclass
from typing import Final

ROOT_UID: Final = 0
_UCRED: Final = struct.Struct("3i")
CREDENTIALS_SIZE_BYTES: Final = _UCRED.size


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that opened a session, and its user's groups (the primary one included)."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]


def find_peer(credentials: bytes) -> Peer:
    """Make a Peer of what SO_PEERCRED gave. May block on the system's user database."""
    pid, uid, gid = _UCRED.unpack(credentials)
    return Peer(pid, uid, gid, frozenset(groups_of(uid, gid)))


def groups_of(uid: int, gid: int) -> list[int]:
    """Return the groups of a user; a user whom the system does not know has only the primary group."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return [gid]
    return os.getgrouplist(name, gid)


def may_mutate(peer: Peer, socket_gid: int, daemon_uid: int) -> bool:
    """Say whether the peer may call methods that change something."""
    return peer.uid in {ROOT_UID, daemon_uid} or socket_gid in peer.groups
