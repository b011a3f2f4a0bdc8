# SPDX-License-Identifier: Apache-2.0
"""What a benchmark ran on: figures of two machines are compared only with a warning."""

import os
import platform
import statistics
from pathlib import Path
from typing import Final

from tests.bench.ping import fdatasync_ms
from tests.bench.support.harness import BUILD_VARIABLE, scratch

Machine = dict[str, str | int | float]
_MODEL_KEYS: Final = ("model name", "Model", "Hardware")


def describe_machine() -> Machine:
    """Cores, processor, kernel, Python, meshd's build, memory, and how long this disk takes to sync a little."""
    with scratch() as directory:
        sync_ms = statistics.median(fdatasync_ms(directory))
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "build": Path(os.environ.get(BUILD_VARIABLE) or "sources").name,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30), 1),
        "fdatasync_p50_ms": round(sync_ms, 3),
    }


def cpu_model(cpuinfo: str) -> str:
    """The name in the text of /proc/cpuinfo; its architecture where the kernel names none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in _MODEL_KEYS:
            return value.strip()
    return platform.machine()
