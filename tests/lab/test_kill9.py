# SPDX-License-Identifier: Apache-2.0
"""The short form of kill9_run: what was acknowledged survives SIGKILL of any daemon, exactly once."""

from pathlib import Path

from tests.lab.kill9_run import run


def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    line, problems = run(kills=8, messages=200, seed=7, directory=tmp_path / "kill9", bearers=2)
    assert problems == [], line
