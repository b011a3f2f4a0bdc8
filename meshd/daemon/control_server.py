# SPDX-License-Identifier: Apache-2.0
"""The control socket: a UNIX stream socket of mode 0660, owned by the configured group.

The file of a daemon that died is removed, but only when nobody answers there: two daemons never share a path. The
socket listens only after its mode and group are set, so nobody gets in early. Sessions are bounded in number; one too
many is told so and closed. Each session is a ControlConnection; what methods mean is left to the ControlHandler.
"""

import errno
import grp
import os
import socket
import stat
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import trio

from meshd.base.errors import MeshdError
from meshd.control.errors import ControlError
from meshd.control.frames import Response, encode_frame
from meshd.control.server_session import OUTPUT_QUEUE_MAX_BYTES, HelloInfo, ServerSession
from meshd.control.settings import ControlSettings
from meshd.daemon.control_connection import LAST_WORDS_S, STALLED_S, ControlConnection
from meshd.daemon.control_handler import ControlHandler
from meshd.daemon.control_peer import CREDENTIALS_SIZE_BYTES, find_peer, may_mutate

SOCKET_MODE: Final = 0o660
SESSIONS_MAX: Final = 64
BACKLOG: Final = 64
PROBE_TIMEOUT_S: Final = 1.0
PATH_MAX_BYTES: Final = 107
"""What the kernel's sockaddr_un holds."""


class ControlSocketError(MeshdError):
    """The control socket can't be opened; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one client, and all of them, may take up."""

    sessions_max: int = SESSIONS_MAX
    output_queue_max_bytes: int = OUTPUT_QUEUE_MAX_BYTES
    stalled_s: float = STALLED_S


class ControlServer:
    """Listens on the control socket and serves its sessions."""

    def __init__(
        self,
        settings: ControlSettings,
        handler: ControlHandler,
        hello: HelloInfo,
        limits: ServerLimits | None = None,
    ) -> None:
        """Do nothing yet; `serve` opens the socket."""
        self._path = Path(settings.socket)
        self._group = settings.group
        self._handler = handler
        self._hello = hello
        self._limits = limits or ServerLimits()
        self._session_ids = count(1)
        self._sessions = 0
        self._socket_gid = os.getegid()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started when clients can connect. The socket file goes when this ends.

        Raises:
          ControlSocketError: the path is taken, too long or not writable, or there is no such group.
        """
        listener, inode = self._open()
        try:
            task_status.started()
            await trio.serve_listeners(self._serve_connection, [trio.SocketListener(listener)])
        finally:
            listener.close()
            self._remove_own_file(inode)

    def _open(self) -> tuple[trio.socket.SocketType, int]:
        """Bind, set owner and mode, then listen. Returns the socket and its file's inode."""
        gid = self._find_group()
        if len(os.fsencode(self._path)) > PATH_MAX_BYTES:
            raise ControlSocketError(f"control socket {self._path}: the path has more than {PATH_MAX_BYTES} bytes")
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
            raise ControlSocketError(f"control socket {self._path} can't be opened: {error.strerror}") from error
        except ControlSocketError:
            listener.close()
            raise
        self._socket_gid = status.st_gid
        return trio.socket.from_stdlib_socket(listener), status.st_ino

    def _find_group(self) -> int | None:
        if self._group is None:
            return None
        try:
            return grp.getgrnam(self._group).gr_gid
        except KeyError:
            raise ControlSocketError(
                f"control socket {self._path}: there is no group {self._group!r}; create it or change [control] group"
            ) from None

    def _bind(self, listener: socket.socket) -> None:
        try:
            listener.bind(os.fspath(self._path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            self._remove_stale_file()
            listener.bind(os.fspath(self._path))

    def _remove_stale_file(self) -> None:
        """Remove the socket file of a daemon that is no more. Raises ControlSocketError when it is not that."""
        if not stat.S_ISSOCK(self._path.lstat().st_mode):
            raise ControlSocketError(f"control socket {self._path}: a file that is no socket is in the way; move it")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_TIMEOUT_S)
            try:
                probe.connect(os.fspath(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
                return
            except (TimeoutError, BlockingIOError):
                pass  # somebody listens and is busy: not ours to remove
        raise ControlSocketError(
            f"control socket {self._path}: another meshd answers there; stop it, or give this one its own"
            " [control] socket"
        )

    def _remove_own_file(self, inode: int) -> None:
        """Remove the socket file unless somebody has put another one in its place."""
        try:
            if self._path.lstat().st_ino == inode:
                self._path.unlink()
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS}:
                raise

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        if self._sessions >= self._limits.sessions_max:
            await self._turn_away(stream)
            return
        self._sessions += 1
        try:
            credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS_SIZE_BYTES)
            peer = await trio.to_thread.run_sync(find_peer, credentials)
            machine = ServerSession(self._hello, trio.current_time(), self._limits.output_queue_max_bytes)
            mutating = may_mutate(peer, self._socket_gid, os.geteuid())
            session = ControlConnection(stream, machine, next(self._session_ids), peer, mutating)
            await session.serve(self._handler, self._limits.stalled_s)
        finally:
            self._sessions -= 1

    async def _turn_away(self, stream: trio.SocketStream) -> None:
        """Tell one client too many why it is closed, waiting only briefly."""
        error = ControlError("failed", f"all {self._limits.sessions_max} control sessions are in use; try later")
        try:
            with trio.move_on_after(LAST_WORDS_S):
                await stream.send_all(encode_frame(Response(None, error.to_wire(), None)))
        except trio.BrokenResourceError:
            pass  # gone already
        finally:
            stream.socket.close()
