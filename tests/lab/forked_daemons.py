# SPDX-License-Identifier: Apache-2.0
"""Daemons that are forked from a process which has loaded meshd's modules: for tests that start one a thousand times.

They are the same program with the same command line, processes of their own, and die of SIGKILL like any other; only
Python's start and the imports, which are most of a daemon's start, happen once.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

from tests.unit.daemon.daemon_process import DaemonProcess, Process

PR_SET_PDEATHSIG: Final = 1
UNKNOWN_EXIT_CODE: Final = -1
"""The kernel reaps these processes by itself, and nobody is told how they ended."""


class ForkedProcess:
    """A process that is no child of ours."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._fd = -1

    def poll(self) -> int | None:
        """None while it runs."""
        return UNKNOWN_EXIT_CODE if self._fd < 0 or self._has_ended(0.0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended."""
        if self._fd >= 0 and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return UNKNOWN_EXIT_CODE

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, sig: int) -> None:
        """By its file descriptor: never to another process that got its number."""
        if self._fd >= 0:
            try:
                signal.pidfd_send_signal(self._fd, sig)
            except ProcessLookupError:
                return

    def _has_ended(self, timeout_s: float | None) -> bool:
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return False
        os.close(self._fd)
        self._fd = -1
        return True


class Forker:
    """The process that forks daemons; use as a context manager. Its end is the end of all of them."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.forked_daemons"],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def fork(self, config: Path, log: Path, notify_address: str) -> ForkedProcess:
        """A new daemon."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps([str(config), str(log), notify_address]) + "\n")
            self._process.stdin.flush()
            return ForkedProcess(int(self._process.stdout.readline()))


class ForkedDaemon(DaemonProcess):
    """A daemon of a forker."""

    def __init__(self, forker: Forker, directory: Path, name: str, port: int, neighbours: dict[str, int]) -> None:
        super().__init__(directory, name, port, neighbours)
        self._forker = forker

    def launch(self, notify_address: str) -> Process:
        """Fork it."""
        return self._forker.fork(self.config, self.directory / "meshd.log", notify_address)


def serve() -> None:
    """Fork one daemon for each line until there are no more."""
    # Imported here: only this process runs daemons.
    from meshd.daemon import main as daemon

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.environ.pop("JOURNAL_STREAM", None)
    while line := sys.stdin.readline():
        pid = os.fork()
        if not pid:
            become_daemon(daemon.main, *json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def become_daemon(main: object, config: str, log: str, notify_address: str) -> NoReturn:
    """In the child: the daemon's surroundings, then the daemon."""
    assert callable(main)
    exit_code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ["NOTIFY_SOCKET"] = notify_address
        nothing = os.open(os.devnull, os.O_RDWR)
        for target in (0, 1):
            os.dup2(nothing, target)
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), 2)
        exit_code = main(["--config", config])
    finally:
        if sys.exception() is not None:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(exit_code)


if __name__ == "__main__":
    serve()
