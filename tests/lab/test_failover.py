# SPDX-License-Identifier: Apache-2.0
"""The better of two terrestrial lines dies silently and returns: how long, and is anything lost? (short form)

The times are those of the design, with room for a loaded machine; tests/bench/mesh.py measures them.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netns_lab.scenario import LAB_FOLDER

SCENARIO = Path(__file__).parent / "scenarios" / "failover.py"
RUN_TIMEOUT_S = 180.0
LATE_S = 1.5

pytestmark = [pytest.mark.root, pytest.mark.lab]


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    command = [sys.executable, str(LAB_FOLDER / "lab"), "run", str(SCENARIO)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_nothing_is_lost_and_nothing_comes_twice(measured: dict[str, Any]) -> None:
    assert measured["messages"] > 150
    assert (measured["lost"], measured["twice"]) == (0, 0)


def test_the_better_line_is_used_and_used_again(measured: dict[str, Any]) -> None:
    assert measured["used_better"] > 0
    assert measured["used_after_failback"] > 0


def test_failover_under_traffic_and_idle(measured: dict[str, Any]) -> None:
    assert 0.5 < measured["failover_s"] < 1.5 + LATE_S
    assert measured["failover_idle_s"] < 3.5 + LATE_S


def test_failback_is_not_felt(measured: dict[str, Any]) -> None:
    assert measured["failback_gap_s"] < 0.1 + LATE_S
