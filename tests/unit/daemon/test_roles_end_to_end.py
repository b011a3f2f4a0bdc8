# SPDX-License-Identifier: Apache-2.0
"""A real daemon: an order of somebody who may not give it, and what the audit log says afterwards."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.ctl.main import run
from tests.unit.daemon.daemon_process import DaemonProcess, free_ports

_AS_NOBODY = """
import os, sys
from meshd.ctl.main import run
os.chdir(sys.argv[1])
for command in (["emcon", "status"], ["audit", "show"]):
    run(["--socket", "control.sock", *command])  # imports what another user may not be able to read
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(run(["--socket", "control.sock", *sys.argv[2:]]))
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    made = DaemonProcess(tmp_path / "alpha", "alpha", free_ports(1)[0], {})
    try:
        made.start()
        made.wait_ready()
        yield made
    finally:
        made.end()


def meshctl(daemon: DaemonProcess, capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["--socket", daemon.socket_path, "--json", *argv]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.root
def test_an_order_of_somebody_else_is_refused_with_exit_7_logged_and_changes_nothing(
    daemon: DaemonProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(daemon.socket_path).chmod(0o666)
    daemon.directory.chmod(0o711)
    (before,) = meshctl(daemon, capsys, "emcon", "status")
    command = [sys.executable, "-c", _AS_NOBODY, str(daemon.directory)]
    done = subprocess.run([*command, "emcon", "set", "silent"], capture_output=True, text=True, timeout=60)
    assert "needs the role operator" in done.stderr
    assert done.returncode == 7
    (after,) = meshctl(daemon, capsys, "emcon", "status")
    assert {key: after[key] for key in ("profile", "since_ms", "source")} == {
        key: before[key] for key in ("profile", "since_ms", "source")
    }
    assert [bearer["posture"] for bearer in after["bearers"]] == ["OPEN"]
    entry = meshctl(daemon, capsys, "audit", "show", "--last", "1")[0]
    assert (entry["uid"], entry["role"], entry["action"], entry["outcome"]) == (
        65534,
        "viewer",
        "emcon.set",
        "unauthorised",
    )
    assert entry["details"]["profile"] == "silent"
    read = subprocess.run([*command, "audit", "show"], capture_output=True, text=True, timeout=60)
    assert read.returncode == 7


def test_orders_are_on_record_over_a_kill_and_tampering_is_found(
    daemon: DaemonProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    meshctl(daemon, capsys, "emcon", "set", "silent", "--reason", "night")
    meshctl(daemon, capsys, "emcon", "set", "unrestricted")
    entries = meshctl(daemon, capsys, "audit", "show")
    actions = [(entry["action"], entry["details"].get("profile")) for entry in entries]
    assert actions.index(("emcon.set", "silent")) < actions.index(("emcon.opening", "unrestricted"))
    assert actions.index(("emcon.opening", "unrestricted")) < actions.index(("emcon.order", "unrestricted"))
    (status,) = meshctl(daemon, capsys, "status")
    head = status["audit"]["head"]
    daemon.kill()
    daemon.start()
    daemon.wait_ready()
    (verdict,) = meshctl(daemon, capsys, "audit", "verify", "--head", head)
    assert verdict["good"]
    database = daemon.directory / "state" / "audit.db"
    assert run(["audit", "verify", "--file", str(database), "--head", head]) == 0
    assert capsys.readouterr().out.startswith("good: ")
    assert run(["audit", "verify", "--file", str(database), "--head", f"1:{'00' * 32}"]) == 1
    assert "BROKEN" in capsys.readouterr().out
    assert run(["audit", "verify", "--file", str(database) + ".none"]) == 1


def test_emcon_verify_says_when_nobody_counts(daemon: DaemonProcess, capsys: pytest.CaptureFixture[str]) -> None:
    (verdict,) = meshctl(daemon, capsys, "emcon", "verify", code=1)
    assert [(row["bearer"], row["device_frames"]) for row in verdict["bearers"]] == [("lan0", None)]
    assert run(["--socket", daemon.socket_path, "emcon", "verify"]) == 1
    assert "nobody counts on this device" in capsys.readouterr().out
