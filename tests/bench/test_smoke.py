# SPDX-License-Identifier: Apache-2.0
"""Every benchmark runs, quickly, and its last line is one JSON object of figures above 0.

What the figures are is a matter for `make bench` and a machine that is left alone; here it matters that they are made.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.support.harness import SHARE_VARIABLE

FOLDER = Path(__file__).resolve().parent
ELSEWHERE = {"all.py", "emcon.py", "fmv.py", "mesh.py", "satcom.py"}
"""`all.py` runs the others; what emcon.py, fmv.py, mesh.py and satcom.py measure is tested in tests/lab, by
test_silence.py, test_video.py, test_failover.py and test_radio.py."""
SCRIPTS = [
    path.name
    for path in sorted(FOLDER.glob("[!_]*.py"))
    if path.name not in ELSEWHERE and not path.name.startswith("test_")
]
QUICK_MAX_S = 50
"""What `--quick` promises, or nearly; twice that ends the test on a busy machine."""
SHARE = "0.2"
"""Of the bundles that `--quick` carries."""


def test_the_forwarding_benchmark_is_among_them() -> None:
    assert "forward.py" in SCRIPTS


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_the_others_can_be_started(name: str) -> None:
    subprocess.run([sys.executable, str(FOLDER / name), "--help"], capture_output=True, check=True)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_quick_run_ends_in_figures(name: str) -> None:
    result = subprocess.run(
        [sys.executable, str(FOLDER / name), "--quick", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * QUICK_MAX_S,
        env=os.environ | {SHARE_VARIABLE: SHARE},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures
    # null is what this machine can't measure: a kernel without BBR.
    assert {figure: value for figure, value in figures.items() if value is not None and not value > 0} == {}
