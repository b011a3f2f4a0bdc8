# SPDX-License-Identifier: Apache-2.0
"""A large file from one meshctl to another through two durable daemons: how fast, and in how much memory.

The file is cut into bundles, stored, sent, stored and written again; neither daemon nor client ever holds it. 2 GiB at
full length, 256 MiB with --quick. Peak memory is the kernel's VmHWM.
"""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.support.harness import ROOT, BenchError, Daemon, free_port, print_table, quick_share, run_main, scratch

MIB: Final = 1 << 20
FILE_SIZE_BYTES: Final = 2048 * MIB
QUICK_SIZE_MIB: Final = 256
TIMEOUT: Final = "10min"
POLL_S: Final = 0.05

CONFIG: Final = """
[node]
id = "dtn://{name}/"
state_dir = "{directory}/state"
[control]
socket = "{directory}/control.sock"
[[bearer]]
name = "lan0"
kind = "terrestrial"
device = "lo"
listen = "127.0.0.1:{port}"
rate = "10 Gbit/s"
[[neighbour]]
node = "dtn://{other}/"
bearer = "lan0"
address = "127.0.0.1:{other_port}"
[emcon]
gate = false
"""


class Client:
    """One meshctl process, watched for its peak memory."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        socket_path = str(directory / "control.sock")
        command = [sys.executable, "-m", "meshd.ctl.main", "--socket", socket_path, *arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.peak_mb = 0.0

    def poll(self) -> bool:
        """Look at it; False when it has ended."""
        if self._process.poll() is not None:
            return False
        self.peak_mb = max(self.peak_mb, peak_mb(self._process.pid))
        return True

    def finish(self) -> str:
        """What it printed. Errors: BenchError when it failed."""
        output, _ = self._process.communicate()
        if self._process.returncode:
            raise BenchError(f"meshctl ended with {self._process.returncode}")
        return output


def peak_mb(pid: int) -> float:
    """VmHWM in megabytes (10^6 bytes); 0 for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), 0.0)


def make_file(path: Path, size_bytes: int) -> str:
    """A file that can't be compressed; its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size_bytes // MIB):
            piece = os.urandom(MIB)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def measure(quick: bool) -> dict[str, float]:
    """One file; prints the table."""
    size_bytes = int(QUICK_SIZE_MIB * quick_share()) * MIB if quick else FILE_SIZE_BYTES
    ports = {"alpha": free_port(), "bravo": free_port()}
    with scratch() as base:
        out = base / "out"
        out.mkdir()
        digest = make_file(base / "file", size_bytes)
        configs = {
            name: CONFIG.format(
                name=name, directory=base / name, port=ports[name], other=other, other_port=ports[other]
            )
            for name, other in (("alpha", "bravo"), ("bravo", "alpha"))
        }
        with Daemon(base / "alpha", configs["alpha"]) as alpha, Daemon(base / "bravo", configs["bravo"]) as bravo:
            begin = time.monotonic()
            receiver = Client(base / "bravo", "recv", "--out", str(out), "--count", "1", "--timeout", TIMEOUT)
            sender = Client(
                base / "alpha", "send", "bravo", str(base / "file"), "--wait", "delivered", "--timeout", TIMEOUT
            )
            while sender.poll() | receiver.poll():
                time.sleep(POLL_S)
            took_s = time.monotonic() - begin
            sender.finish()
            received = Path(receiver.finish().split()[0])
            daemons_mb = max(peak_mb(alpha.pid), peak_mb(bravo.pid))
        with received.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise BenchError("what arrived is not what was sent")
    figures = {
        "mbit_per_s_file": size_bytes * 8e-6 / took_s,
        "daemon_peak_rss_mb": daemons_mb,
        "client_peak_rss_mb": max(sender.peak_mb, receiver.peak_mb),
    }
    rows: list[tuple[str, ...]] = [("MiB", "s", "Mbit/s", "daemon peak MB", "client peak MB")]
    rows.append((f"{size_bytes // MIB}", f"{took_s:.1f}", *(f"{value:.0f}" for value in figures.values())))
    print_table("one file through two durable daemons, sent, received and confirmed", rows)
    return figures


if __name__ == "__main__":
    sys.exit(run_main(__doc__.splitlines()[0], measure))
