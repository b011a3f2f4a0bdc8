# SPDX-License-Identifier: Apache-2.0
"""`meshctl trace`: the way put together from what nodes report, in whatever order, and what is missing of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.bundle.trace_report import TraceReport, encode_trace_report
from meshd.ctl.commands.trace import Report, make_hops, trace_service
from meshd.ctl.main import run
from tests.unit.client.fake_daemon import FakeDaemon

OWN = "dtn://dpop1/"
T_MS = 820_000_000_000
DPOP2 = Report("dtn://dpop2/", TraceReport(T_MS, 1, OWN, "los0", T_MS + 1030, 1000, is_last=False))
HOME = Report("dtn://home/", TraceReport(T_MS, 1, "dtn://dpop2/", "satcom0", T_MS + 3380, 3000, is_last=True))


class Reporting(FakeDaemon):
    """Answers a trace as the nodes of its way would."""

    way: tuple[Report, ...] = (HOME, DPOP2)

    def _do_send_close(self, params: dict[str, Any]) -> Any:
        for number, (_, said) in enumerate(self.way):
            self.load(f"{number:012x}", encode_trace_report(said))
        return super()._do_send_close(params)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reporting]:
    fake = Reporting(tmp_path / "control.sock")
    with fake:
        monkeypatch.setenv("MESHD_SOCKET", str(fake.path))
        yield fake


def test_hops_are_put_in_order() -> None:
    first, second = make_hops(OWN, [HOME, DPOP2])
    assert first == {
        "hop": 1,
        "from": OWN,
        "to": "dtn://dpop2/",
        "bearer": "los0",
        "waited_ms": 1000,
        "link_ms": 30,
        "total_ms": 1030,
    }
    assert (second["from"], second["waited_ms"], second["link_ms"], second["total_ms"]) == (
        "dtn://dpop2/",
        2000,
        350,
        3380,
    )


def test_what_does_not_join_comes_behind_and_claims_nothing() -> None:
    (only,) = make_hops(OWN, [HOME])
    assert (only["from"], only["waited_ms"], only["link_ms"], only["total_ms"]) == ("dtn://dpop2/", None, None, 3380)


def test_a_source_without_a_clock_has_no_sums() -> None:
    said = TraceReport(0, 1, OWN, "los0", T_MS, 40, is_last=True)
    (only,) = make_hops(OWN, [Report("dtn://dpop2/", said)])
    assert (only["waited_ms"], only["link_ms"], only["total_ms"]) == (40, None, None)


def test_names() -> None:
    assert trace_service("home") == "dtn://home/trace"
    assert trace_service("ipn:3") == "ipn:3.8"


def test_who_does_not_report_in_time(daemon: Reporting, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.way = ()
    assert run(["trace", "home", "--timeout", "1ms", "--json"]) == 6
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"destination": "dtn://home/trace", "arrived": False, "hops": []}
    assert "did not report" in printed.err


def test_json_and_text(daemon: Reporting, capsys: pytest.CaptureFixture[str]) -> None:
    """The fake daemon gives all messages one source, so there is one report."""
    daemon.way = (Report("", TraceReport(T_MS, 1, OWN, "los0", T_MS + 1030, 1000, is_last=True)),)
    assert run(["trace", "dpop2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["arrived"], found["hops"][0]["bearer"]) == (True, "los0")
    opened = next(params for method, params in daemon.calls if method == "send.message")
    assert (opened["destination"], opened["report"], opened["lifetime_ms"]) == ("dtn://dpop2/trace", False, 10_000)
    assert run(["trace", "dpop2"]) == 0
    assert "1.000 s  0.030 s  1.030 s" in capsys.readouterr().out
