# SPDX-License-Identifier: Apache-2.0
"""What tools/setup.sh says when it can't go on. That it works is shown by everything else that runs here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "tools/setup.sh"


@pytest.fixture
def poor_path(tmp_path: Path) -> str:
    """A search path with a shell's bare needs: neither apt nor mandoc nor flock."""
    for name in ("sh", "dirname", "basename", "id"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    (tmp_path / "python3").symlink_to(sys.executable)
    return str(tmp_path)


def run(path: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """One run that has to end before it touches the virtual environment."""
    stamp = REPOSITORY / ".venv/stamp"
    before = stamp.stat().st_mtime_ns if stamp.exists() else None
    result = subprocess.run(
        [str(SCRIPT), *arguments],
        env={"PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (stamp.stat().st_mtime_ns if stamp.exists() else None) == before
    return result


def test_one_line_names_all_missing_packages(poor_path: str) -> None:
    result = run(poor_path, "test")
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("setup: missing Debian packages")
    names = result.stderr.split(": ")[-1].split()
    assert {"mandoc", "tshark", "systemd", "ffmpeg", "fonts-dejavu-core"} <= set(names)
    assert len(names) == len(set(names))


def test_a_python_that_is_too_old_is_not_used(poor_path: str) -> None:
    old = Path(poor_path) / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = run(poor_path, "test", PYTHON="python3.9")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "setup: needs Python 3.11, 3.12 or 3.13 as python3 (or name one: make PYTHON=python3.12 ...)"
    ]


def test_an_unknown_purpose_is_a_usage_error(poor_path: str) -> None:
    result = run(poor_path, "everything")
    assert result.returncode == 2
    assert "known are venv, demo, video, lint, test" in result.stderr


@pytest.mark.parametrize("script", ["tools/setup.sh", "tools/bare-debian.sh", ".ci/run"])
def test_scripts_are_programs_with_valid_syntax(script: str) -> None:
    path = REPOSITORY / script
    assert os.access(path, os.X_OK)
    shell = "bash" if "bash" in path.read_text().splitlines()[0] else "sh"
    result = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
