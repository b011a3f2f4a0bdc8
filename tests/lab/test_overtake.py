# SPDX-License-Identifier: Apache-2.0
"""The short form of overtake_run: FLASH is there long before the file that fills the line.

Behind the file it would take 4 s. The second that is promised is for overtake_run, on a machine that does nothing else.
"""

from pathlib import Path

import pytest

from tests.lab.overtake_run import report, run

FLASH_MAX_S = 2.5


@pytest.mark.root
@pytest.mark.lab
@pytest.mark.programs("ip", "tc")
def test_flash_overtakes_a_file(tmp_path: Path) -> None:
    line, problems = run(size_mib=48, rate_mbit=100, base=tmp_path, flash_max_s=FLASH_MAX_S)
    assert problems == [], line


@pytest.mark.root
@pytest.mark.lab
@pytest.mark.programs("ip", "tc")
def test_flash_overtakes_one_single_bundle(tmp_path: Path) -> None:
    line, problems = run(size_mib=48, rate_mbit=100, base=tmp_path, is_single=True, flash_max_s=FLASH_MAX_S)
    assert problems == [], line


def test_a_late_message_and_a_file_without_messages_are_problems() -> None:
    _, late = report(1024, 200, 45.0, [0.1, 0.2, 1.01, float("inf"), 0.3])
    assert late == ["FLASH message 2 took 1.010 s", "FLASH message 3 took inf s"]
    _, none = report(1024, 200, 45.0, [])
    assert none == ["only 0 FLASH messages were sent while the file was under way"]
