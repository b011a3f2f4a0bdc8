# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about a running process: CPU time to the nanosecond, file descriptors, and a folder's size."""

from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 512
"""Unit of `st_blocks`, whatever the file system's is."""


def scheduled_s(pid: int) -> float:
    """CPU time of all threads that run now: finer than the ticks of /proc/PID/stat."""
    total_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            total_ns += int((thread / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return total_ns / 1e9


def open_files(pid: int) -> int:
    """Open file descriptors."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def folder_mb(folder: Path) -> float:
    """What its files take on the disk, in megabytes (10^6 bytes)."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            continue  # a segment that was just given back
    return total / 1e6
