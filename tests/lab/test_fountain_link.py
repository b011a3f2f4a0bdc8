# SPDX-License-Identifier: Apache-2.0
"""The fountain layer between two real daemons over an emulated radio link: rate, FLASH, silence (short form)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netns_lab.scenario import LAB_FOLDER

SCENARIO = Path(__file__).parent / "scenarios" / "fountain_link.py"
RUN_TIMEOUT_S = 180.0
MIB = 1 << 20

pytestmark = [pytest.mark.root, pytest.mark.lab]


def run_link(size_bytes: int, loss_pct: int, delay_ms: int, rate_kbps: int, flashes: int) -> dict[str, Any]:
    """What the scenario measured."""
    command = [sys.executable, str(LAB_FOLDER / "lab"), "run", str(SCENARIO)]
    command += map(str, (size_bytes, loss_pct, delay_ms, rate_kbps, flashes))
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def test_a_file_flash_and_silence_over_a_lossy_link() -> None:
    """1 MiB at 5 % loss takes 2.3 s at the least at 4 Mbit/s. Bounds leave room for a loaded machine."""
    found = run_link(MIB, 5, 100, 4000, 4)
    assert found["missed"] == found["missed_in_silence"] == 0
    assert found["goodput_ratio"] > 0.75
    assert found["wire_per_payload"] < 1.07 / 0.95 + 0.05
    assert found["flash_max_s"] < 1.0
    assert not found["bulk_was_done"]
    assert found["frames_in_silence"] == 0
