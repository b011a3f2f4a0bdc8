# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: a real daemon in a directory of its own, helper processes, figures, the command line.

Every benchmark takes `--quick` (under 50 s) and `--json` (the last line is one JSON object, figure name to number).
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

ROOT: Final = Path(__file__).resolve().parents[3]
TLS_VARIABLE: Final = "MESHD_BENCH_TLS"
"""Folder with node.pem, node.key and ca.pem of a helper that speaks TLS."""
BUILD_VARIABLE: Final = "MESHD_BENCH_BUILD"
"""Folder with another package `meshd`, such as build/compiled: the daemons run that one."""
SHARE_VARIABLE: Final = "MESHD_BENCH_SHARE"
"""Of the quantities of --quick: for tests, to which it only matters that figures come."""
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A benchmark could not be carried out, or found something lost."""


def quick_share() -> float:
    """What to take of the quantities of --quick."""
    return float(os.environ.get(SHARE_VARIABLE, "1"))


def free_port() -> int:
    """A TCP port of the loopback address that nobody uses at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Daemon:
    """One `meshd` process; use as a context manager. Ready when it has said so by sd_notify."""

    def __init__(self, directory: Path, config: str) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._config = directory / "meshd.toml"
        self._config.write_text(config)
        self._log_path = directory / "meshd.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.ready_s = 0.0

    def __enter__(self) -> Self:
        notify_path = self._directory / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, self._log_path.open("ab") as log:
            notify.bind(str(notify_path))
            notify.settimeout(0.2)
            environment = os.environ | {"NOTIFY_SOCKET": str(notify_path)}
            begin = time.monotonic()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "meshd.daemon.main", "--config", str(self._config)],
                cwd=os.environ.get(BUILD_VARIABLE) or ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
            self._wait_until_ready(notify, begin)
            self.ready_s = time.monotonic() - begin
        notify_path.unlink()
        return self

    def _wait_until_ready(self, notify: socket.socket, begin: float) -> None:
        assert self._process is not None
        while time.monotonic() - begin < START_TIMEOUT_S:
            try:
                if b"READY=1" in notify.recv(4096):
                    return
            except TimeoutError:
                if self._process.poll() is not None:
                    break
        self.stop()
        raise BenchError(f"the daemon did not become ready:\n{self.log_tail()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, politely first."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def log_tail(self, lines: int = 30) -> str:
        """The last lines that it wrote."""
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-lines:])

    def cpu_s(self) -> float:
        """CPU time used so far, all threads, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def rss_mb(self) -> float:
        """Resident memory in megabytes (10^6 bytes)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise BenchError("the daemon is gone")


class Helper:
    """A helper process that prints one JSON object per line."""

    def __init__(self, module: str, arguments: Sequence[str], tls: Path | None = None) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._name = " ".join([module, *arguments[:1]])
        environment = os.environ | ({} if tls is None else {TLS_VARIABLE: str(tls)})
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)

    def read(self) -> dict[str, Any]:
        """The next object."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"{self._name} ended early with exit code {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise BenchError(f"{self._name}: {found['error']}")
        return found

    def stop(self) -> None:
        """End it if it has not ended by itself."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def helper(module: str, *arguments: object, tls: Path | None = None) -> Iterator[Helper]:
    """Start a helper, and make sure it is gone in the end. `tls` is the folder of its certificate."""
    process = Helper(module, [str(argument) for argument in arguments], tls)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory below TMPDIR (`/var/tmp` if none): the store must not lie on a RAM disk unnoticed."""
    with tempfile.TemporaryDirectory(prefix="meshd-bench-", dir=os.environ.get("TMPDIR", "/var/tmp")) as path:
        yield Path(path)


def median_of(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of every figure over some runs."""
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """A plain table, the first row its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(title)
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  " + "  ".join(cells))


Measure = Callable[[bool], Mapping[str, float | None]]
"""None: this machine can't measure it."""


def run_main(description: str, measure: Measure, variants: Mapping[str, tuple[str, Measure]] | None = None) -> int:
    """The command line of a benchmark; `measure` gets `quick`, prints its tables and returns the figures.

    `variants`: options that run another measure instead, each with its help.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under 50 s")
    parser.add_argument("--json", action="store_true", help="end with one line: a JSON object, figure name to number")
    for name, (text, variant) in (variants or {}).items():
        parser.add_argument(f"--{name}", dest="measure", action="store_const", const=variant, help=text)
    parser.set_defaults(measure=measure)
    arguments = parser.parse_args()
    try:
        figures = arguments.measure(arguments.quick)
    except BenchError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({name: value if value is None else round(value, 4) for name, value in figures.items()}))
    return 0
