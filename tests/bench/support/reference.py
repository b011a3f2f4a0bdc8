# SPDX-License-Identifier: Apache-2.0
"""What this machine does when nobody thinks about the data: a bare TCP copy, and `dd` with fsync."""

import os
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.bench.support.harness import BenchError, helper

TCP_COPY: Final = "tests.bench.support.tcp_copy"


def tcp_copy_per_s(size_bytes: int, count: int, hops: int) -> float:
    """So many pieces of so many bytes from a process by way of `hops` copiers to a third one: pieces a second."""
    with ExitStack() as stack:
        sink = stack.enter_context(helper(TCP_COPY, "sink", size_bytes * count))
        port = sink.read()["port"]
        for _ in range(hops):
            port = stack.enter_context(helper(TCP_COPY, "copier", port)).read()["port"]
        source = stack.enter_context(helper(TCP_COPY, "source", port, size_bytes, count))
        begin: float = source.read()["begin"]
        end: float = sink.read()["end"]
    return count / (end - begin)


def dd_per_s(directory: Path, size_bytes: int, count: int, *options: str) -> float:
    """Blocks a second that `dd` writes to this disk: `conv=fsync` syncs once in the end, `oflag=dsync` each block."""
    out = directory / "dd"
    done = subprocess.run(
        ["dd", "if=/dev/zero", f"of={out}", f"bs={size_bytes}", f"count={count}", *options],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LC_ALL": "C"},
    )
    found = re.search(r"copied, ([0-9.e+-]+) s", done.stderr)
    if done.returncode or found is None:
        raise BenchError(f"dd failed: {done.stderr.strip()}")
    out.unlink()
    return count / float(found[1])
