# SPDX-License-Identifier: Apache-2.0
"""A UNIX stream socket for clients on this host: of mode 0660, owned by a configured group.

The file of a daemon that died is removed, but only when nobody answers there: two daemons never share a path. The
socket listens only after its mode and group are set, so nobody gets in early.
"""

import errno
import grp
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Final

import trio

from meshd.base.errors import MeshdError

SOCKET_MODE: Final = 0o660
BACKLOG: Final = 64
PROBE_TIMEOUT_S: Final = 1.0
PATH_MAX_BYTES: Final = 107
"""What the kernel's sockaddr_un holds."""


class UnixSocketError(MeshdError):
    """The socket can't be opened; the message says why and what to do."""


class UnixSocket:
    """One listening socket; `table` is what messages and the configuration call it, such as `control`."""

    def __init__(self, table: str, path: PathLike[str], group: str | None) -> None:
        """Do nothing yet."""
        self._table = table
        self._path = Path(path)
        self._group = group
        self.gid = os.getegid()
        """The group that the file belongs to, once it is open."""

    @contextmanager
    def open(self) -> Iterator[trio.socket.SocketType]:
        """The listening socket; its file goes with it.

        Raises:
          UnixSocketError: the path is taken, too long or not writable, or there is no such group.
        """
        listener, inode = self._listen()
        try:
            yield listener
        finally:
            listener.close()
            self._remove_own_file(inode)

    def _listen(self) -> tuple[trio.socket.SocketType, int]:
        """Bind, set owner and mode, then listen. Returns the socket and its file's inode."""
        gid = self.find_group(f"[{self._table}] group", self._group)
        if len(os.fsencode(self._path)) > PATH_MAX_BYTES:
            raise self._error(f": the path has more than {PATH_MAX_BYTES} bytes")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind(listener)
            if gid is not None:
                os.chown(self._path, -1, gid)
            self._path.chmod(SOCKET_MODE)
            listener.listen(BACKLOG)
            status = self._path.stat()
        except OSError as error:
            listener.close()
            raise self._error(f" can't be opened: {error.strerror}") from error
        except UnixSocketError:
            listener.close()
            raise
        self.gid = status.st_gid
        return trio.socket.from_stdlib_socket(listener), status.st_ino

    def _error(self, text: str) -> UnixSocketError:
        return UnixSocketError(f"{self._table} socket {self._path}{text}")

    def find_group(self, key: str, name: str | None) -> int | None:
        """The number of the group that a key such as `[control] group` names. Errors: UnixSocketError."""
        if name is None:
            return None
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            text = f": there is no group {name!r}; create it or change {key}"
            raise self._error(text) from None

    def _bind(self, listener: socket.socket) -> None:
        try:
            listener.bind(os.fspath(self._path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            self._remove_stale_file()
            listener.bind(os.fspath(self._path))

    def _remove_stale_file(self) -> None:
        """Remove the socket file of a daemon that is no more. Raises UnixSocketError when it is not that."""
        if not stat.S_ISSOCK(self._path.lstat().st_mode):
            raise self._error(": a file that is no socket is in the way; move it")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_TIMEOUT_S)
            try:
                probe.connect(os.fspath(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
                return
            except (TimeoutError, BlockingIOError):
                pass  # somebody listens and is busy: not ours to remove
        raise self._error(f": another meshd answers there; stop it, or give this one its own [{self._table}] socket")

    def _remove_own_file(self, inode: int) -> None:
        """Remove the socket file unless somebody has put another one in its place."""
        try:
            if self._path.lstat().st_ino == inode:
                self._path.unlink()
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS}:
                raise
