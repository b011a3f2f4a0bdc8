# SPDX-License-Identifier: Apache-2.0
"""`meshctl routes`, against a fake daemon."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.ctl.main import run
from tests.unit.client.fake_daemon import FakeDaemon

HOP = {
    "from": "dtn://dpop1/",
    "to": "dtn://home/",
    "bearer": "sat0",
    "kind": "live",
    "rate_bps": 2_000_000,
    "loss": 0.0,
    "confidence": 1.0,
    "wait_s": 1.5,
    "before_bytes": 300,
    "send_s": 0.004,
    "delay_s": 0.27,
    "arrival_ms": 1_767_323_045_000,
}
ROUTE = {
    "to": "dtn://home/",
    "rank": 1,
    "state": "chosen",
    "via": "dtn://home/",
    "takes_s": 1.774,
    "confidence": 1.0,
    "arrival_ms": 1_767_323_045_000,
    "why": "the earliest",
    "hops": [HOP],
}
NONE = {"to": "dtn://far/", "rank": 1, "state": "none", "via": None, "hops": [], "why": "no route"}


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "control.sock") as fake:
        monkeypatch.setenv("MESHD_SOCKET", str(fake.path))
        fake.replies["routes.list"] = lambda params: {"routes": [ROUTE, NONE], "at_ms": 0, "nodes": 101}
        yield fake


def asked(daemon: FakeDaemon) -> dict[str, Any]:
    return next(params for name, params in daemon.calls if name == "routes.list")


def test_to_all(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["routes"]) == 0
    assert asked(daemon) == {
        "to": None,
        "size_bytes": 1024,
        "precedence": "ROUTINE",
        "at": None,
        "lifetime_ms": 86_400_000,
    }
    shown = capsys.readouterr()
    line = [each.strip() for each in shown.out.splitlines()[1].split("  ") if each]
    time = "2026-01-02T03:04:05Z"
    assert line == ["dtn://home/", "1", "chosen", "dtn://home/", time, "1.8 s", "1.00", "the earliest"]
    assert "no route" in shown.out
    assert "100 of 101 nodes" in shown.err


@pytest.mark.parametrize("words", [["to", "home"], ["home"]])
def test_to_one_node_with_its_hops(words: list[str], daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--size", "5 MB", "--precedence", "flash", "--at", "+90 s", "--lifetime", "2h")
    assert run(["routes", *words, *options]) == 0
    assert asked(daemon) == {
        "to": "dtn://home/",
        "size_bytes": 5_000_000,
        "precedence": "FLASH",
        "at": "+90 s",
        "lifetime_ms": 7_200_000,
    }
    assert "1.1 dtn://dpop1/ to dtn://home/ on sat0 (live, probability 1.00): waits 1.5 s" in capsys.readouterr().out


def test_json(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--json", "routes"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [ROUTE, NONE]


def test_words_that_mean_nothing(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["routes", "from", "home"]) != 0
    assert "write `meshctl routes to NODE`" in capsys.readouterr().err
