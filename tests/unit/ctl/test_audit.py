# SPDX-License-Identifier: Apache-2.0
"""`meshctl audit` and `meshctl emcon verify` against a daemon that says what it was loaded with."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.control.words import AUDIT_LISTED_MAX
from meshd.ctl.main import run
from tests.unit.client.fake_daemon import FakeDaemon

ENTRY = {
    "number": 7,
    "hash": "ab" * 32,
    "time_ms": 1_767_323_045_000,
    "clock_trusted": False,
    "uid": 1000,
    "user": "alice",
    "pid": 42,
    "role": "viewer",
    "action": "emcon.set",
    "outcome": "unauthorised",
    "details": {"for_s": 60.0, "profile": "silent"},
    "refusals_left_out": 3,
}
OWN = ENTRY | {"number": 6, "uid": None, "user": None, "pid": None, "role": "daemon", "clock_trusted": True}
ROW = {
    "bearer": "satcom0",
    "device": "sat0",
    "posture": "RX_ONLY",
    "for_s": 60.0,
    "gate_open": False,
    "device_frames": 0,
    "blocked_frames": 7,
    "node_bundles": 0,
    "good": True,
    "verdict": "silent",
}


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "control.sock") as fake:
        monkeypatch.setenv("MESHD_SOCKET", str(fake.path))
        fake.replies |= {
            "audit.list": lambda _: {"entries": [ENTRY, OWN], "more": False},
            "audit.verify": lambda _: {"good": True, "rows": 7, "head": "7:" + "ab" * 32, "problems": []},
            "emcon.verify": lambda _: {"bearers": [ROW], "good": True},
        }
        yield fake


def test_entries_are_shown_the_oldest_first(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "show"]) == 0
    _, own, entry = capsys.readouterr().out.splitlines()
    assert own.split()[:4] == ["6", "2026-01-02T03:04:05Z", "meshd", "daemon"]
    assert "2026-01-02T03:04:05Z ?  alice (uid 1000, pid 42)" in entry
    assert entry.endswith("unauthorised  profile=silent for_s=60.0 refusals_left_out=3")
    assert run(["audit", "show", "--json"]) == 0
    assert [json.loads(line)["number"] for line in capsys.readouterr().out.splitlines()] == [6, 7]


def test_many_entries_are_asked_for_in_pages(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    def page(params: dict[str, Any]) -> dict[str, Any]:
        newest = 1200 if params["before"] is None else params["before"] - 1
        numbers = range(newest, max(0, newest - params["limit"]), -1)
        return {"entries": [ENTRY | {"number": number} for number in numbers], "more": numbers[-1] > 1}

    daemon.replies["audit.list"] = page
    assert run(["audit", "show", "--last", "1100", "--since", "1h", "--json"]) == 0
    numbers = [json.loads(line)["number"] for line in capsys.readouterr().out.splitlines()]
    assert numbers == list(range(101, 1201))
    asked = [params for method, params in daemon.calls if method == "audit.list"]
    assert [params["limit"] for params in asked] == [AUDIT_LISTED_MAX, AUDIT_LISTED_MAX, 100]
    assert asked[0]["since_ms"] > 1_700_000_000_000


def test_the_verdict_on_the_chain_is_the_exit_code(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify", "--head", "7:00"]) == 0
    assert capsys.readouterr().out == f"good: 7 entries, head 7:{'ab' * 32}\n"
    assert daemon.calls[-1] == ("audit.verify", {"head": "7:00"})
    daemon.replies["audit.verify"] = lambda _: {"good": False, "rows": 0, "head": None, "problems": ["it was cut"]}
    assert run(["audit", "verify"]) == 1
    assert capsys.readouterr().out == "problem: it was cut\nBROKEN: 0 entries, head -\n"


def test_a_file_that_is_not_there_is_no_good_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify", "--file", str(tmp_path / "audit.db")]) == 1
    assert "audit.db: No such file" in capsys.readouterr().err


def test_the_verdict_on_the_counters_is_the_exit_code(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["emcon", "verify"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == ["satcom0", "sat0", "RX_ONLY", "1", "min", "closed", "0", "7", "0", "silent"]
    leak = ROW | {"good": False, "verdict": "LEAK: 1 frames left the device"}
    daemon.replies["emcon.verify"] = lambda _: {"bearers": [leak], "good": False}
    assert run(["emcon", "verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["bearers"] == [leak]
