# SPDX-License-Identifier: Apache-2.0
"""`meshctl emcon break|plan`: what is asked for, and how the answer is shown."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.ctl.main import run
from tests.unit.client.fake_daemon import FakeDaemon

BROKEN = {
    "bearers": ["sat0"],
    "window_s": 2.0,
    "quota_bytes": 20_000,
    "frames": 7,
    "bytes": 9000,
    "ended_by_order": False,
}
PLANS = {
    "now_ms": 1_777_629_600_000,
    "plans": [
        {
            "node": "dtn://dpop1/",
            "own": True,
            "silent": True,
            "windows": [{"begins_ms": 1_777_630_000_000, "ends_ms": 1_777_630_300_000}],
        },
        {"node": "dtn://home/", "own": False, "silent": False, "windows": [{"begins_ms": 1, "ends_ms": None}]},
        {"node": "dtn://mute/", "own": False, "silent": True, "windows": []},
    ],
}


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "control.sock") as fake:
        monkeypatch.setenv("MESHD_SOCKET", str(fake.path))
        fake.replies |= {"emcon.break": lambda _: BROKEN, "emcon.plan": lambda _: PLANS}
        yield fake


def test_a_window_is_asked_for_and_what_left_is_shown(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--bearer", "sat0", "--bearer", "los0", "--for", "2s", "--quota", "20 kB", "--reason", "convoy hit"]
    assert run(["emcon", "break", *words]) == 0
    assert daemon.calls[-1] == (
        "emcon.break",
        {"bearers": ["sat0", "los0"], "bundle": None, "for_s": 2.0, "quota_bytes": 20_000, "reason": "convoy hit"},
    )
    shown = capsys.readouterr().out
    assert "7 frames" in shown
    assert "silent again" in shown


@pytest.mark.parametrize("missing", ["--bearer", "--reason"])
def test_neither_bearer_nor_reason_may_be_left_out(
    daemon: FakeDaemon, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"--bearer": "sat0", "--reason": "now"}
    del words[missing]
    with pytest.raises(SystemExit) as caught:
        run(["emcon", "break", *[word for pair in words.items() for word in pair]])
    assert caught.value.code == 2
    assert missing in capsys.readouterr().err


def test_who_may_not_is_told_so(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.refuse("emcon.break", "unauthorised", "needs the right to break silence")
    assert run(["emcon", "break", "--bearer", "sat0", "--reason", "now"]) == 7


def test_windows_are_shown_by_node(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["emcon", "plan"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()[1:]
    assert "dtn://dpop1/ (here)" in first
    assert "silent" in first
    assert "may send" in second
    assert "dtn://mute/" in third
    assert run(["emcon", "plan", "dtn://home/"]) == 0
    assert daemon.calls[-1] == ("emcon.plan", {"node": "dtn://home/"})


def test_no_plan_is_said_in_words(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies["emcon.plan"] = lambda _: {"now_ms": 0, "plans": []}
    assert run(["emcon", "plan"]) == 0
    assert "no node" in capsys.readouterr().out
