# SPDX-License-Identifier: Apache-2.0
"""`meshctl stream list` and `stats`: what an operator reads."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.ctl.main import run
from meshd.ctl.stream_stats import Lately
from tests.unit.client.fake_daemon import FakeDaemon

PLAYOUT = {
    "on_time_pct": 99.999,
    "whole_cuts": 100,
    "partial_cuts": 0,
    "missing_cuts": 0,
    "is_thinned": False,
    "latency_ms": 2310,
    "latency_of": "klv",
}
ROW = {
    "name": "uav1",
    "stream": "fa612d5291930eac",
    "source": "dtn://dpop1/",
    "state": "live",
    "role": "received",
    "began_ms": 1_767_323_045_000,
    "label": "EXERCISE",
    "rate_bps": 2_140_000,
    "tiers_bps": {"metadata": 38_000, "key-frames": 240_000, "rest": 1_862_000},
    "archived_bytes": 1 << 20,
    "archived_pieces": 1999,
    "missing_pieces": 1,
    "is_complete": False,
    "playout": PLAYOUT,
    "outputs": ["udp://127.0.0.1:5004"],
    "input_problem": None,
    "archive_problem": "",
}


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(tmp_path / "control.sock")
    with fake:
        monkeypatch.setenv("MESHD_SOCKET", str(fake.path))
        yield fake


def rows(daemon: FakeDaemon, *values: dict[str, Any]) -> None:
    daemon.replies["streams.list"] = lambda _: {"streams": list(values)}


def words_of(line: str) -> list[str]:
    return [word.strip() for word in line.split("  ") if word.strip()]


def test_a_receiver_s_figures(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    rows(daemon, ROW)
    assert run(["stream", "stats", "uav1"]) == 0
    columns, line = map(words_of, capsys.readouterr().out.splitlines())
    assert dict(zip(columns, line, strict=True)) == {
        "NAME": "uav1",
        "HERE": "received, 1 output",
        "STATE": "live",
        "RATE": "2.14 Mbit/s",
        "META+KEY+REST kbit/s": "38+240+1862",
        "SHOWN": "all",
        "ON TIME": "99.99 %",
        "LATELY": "-",
        "LATENCY": "2.31 s by KLV",
        "MISSING": "1",
        "ARCHIVE": "99.9 %",
        "PROBLEM": "-",
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"playout": PLAYOUT | {"is_thinned": True}}, "key frames"),
        ({"playout": PLAYOUT | {"is_thinned": True}, "tiers_bps": {"metadata": 38_000, "key-frames": 0}}, "metadata"),
        ({"rate_bps": 0}, "nothing"),
        ({"input_problem": "nothing comes"}, "nothing comes"),
        ({"is_complete": True}, "complete"),
        ({"playout": PLAYOUT | {"latency_of": "ingest"}}, "2.31 s by ingest"),
        ({"role": "published", "outputs": [], "playout": None}, "published"),
    ],
)
def test_what_is_shown_and_what_is_wrong_is_said(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: str
) -> None:
    rows(daemon, ROW | changes)
    assert run(["stream", "stats"]) == 0
    assert words in words_of(capsys.readouterr().out.splitlines()[1])


def test_as_json_the_daemon_s_own_figures(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    rows(daemon, ROW)
    assert run(["--json", "stream", "stats", "--count", "2", "--interval", "0.01s"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [ROW, ROW]


def test_lately_is_of_the_last_seconds_alone() -> None:
    lately = Lately(1.0)
    assert lately.take(ROW) is None
    assert lately.take(_cuts(110, 0)) == 100.0
    assert lately.take(_cuts(110, 10)) == 50.0
    for number in range(10):
        lately.take(_cuts(120 + 10 * number, 10))
    assert lately.take(_cuts(220, 10)) == 100.0
    assert lately.take(ROW | {"playout": None}) is None
    assert lately.take(_cuts(230, 10)) is None


def test_a_terminal_is_told_when_and_how_to_end(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    rows(daemon, ROW)
    assert run(["stream", "stats", "--count", "2", "--interval", "0.01s"]) == 0
    assert screen.getvalue().count("every 0.01 s; Ctrl-C ends") == 2
    assert screen.getvalue().count("\x1b[H\x1b[J") == 2


def test_a_list_says_what_is_here_and_whole(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    whole = ROW | {"state": "ended", "is_complete": True, "outputs": []}
    rows(daemon, ROW, whole, ROW | {"archived_pieces": 0, "missing_pieces": 0, "label": ""})
    assert run(["stream", "list"]) == 0
    columns, *lines = map(words_of, capsys.readouterr().out.splitlines())
    assert columns == ["NAME", "HERE", "STATE", "FROM", "BEGAN", "SIZE", "ARCHIVE", "LABEL", "ID"]
    assert [line[1:3] for line in lines[:2]] == [["received, 1 output", "live"], ["received", "ended"]]
    assert [line[6] for line in lines] == ["99.9 %", "complete", "-"]


def _cuts(whole: int, missing: int) -> dict[str, Any]:
    return ROW | {"playout": PLAYOUT | {"whole_cuts": whole, "missing_cuts": missing}}
