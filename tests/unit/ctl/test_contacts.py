# SPDX-License-Identifier: Apache-2.0
"""`meshctl contacts`, against a fake daemon."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.ctl.main import run
from tests.unit.client.fake_daemon import FakeDaemon

ROW = {
    "ref": "3f9a1c0b",
    "from": "dtn://dpop1/",
    "to": "dtn://home/",
    "bearer": "satcom0",
    "state": "now",
    "start_ms": 1_767_323_045_000,
    "end_ms": None,
    "rate_bps": 2_000_000,
    "delay_s": 0.27,
    "loss": 0.015,
    "confidence": 1.0,
    "radiates": True,
}


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "control.sock") as fake:
        monkeypatch.setenv("MESHD_SOCKET", str(fake.path))
        yield fake


def asked(daemon: FakeDaemon, method: str) -> dict[str, Any]:
    return next(params for name, params in daemon.calls if name == method)


def test_ls(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies["contacts.list"] = lambda params: {"contacts": [ROW], "total": 3}
    assert run(["contacts", "ls", "--to", "home"]) == 0
    assert asked(daemon, "contacts.list") == {"limit": 1000, "from": None, "to": "dtn://home/"}
    shown = capsys.readouterr()
    line = shown.out.splitlines()[1].split("  ")
    assert [each.strip() for each in line if each] == [
        "3f9a1c0b",
        "dtn://dpop1/",
        "dtn://home/",
        "satcom0",
        "now",
        "2026-01-02T03:04:05Z",
        "-",
        "2 Mbit/s",
        "0.27 s",
        "1.5 %",
        "100 %",
        "yes",
    ]
    assert shown.err == "and 2 more: see --limit, --from and --to\n"
    assert run(["--json", "contacts", "ls"]) == 0
    assert json.loads(capsys.readouterr().out) == ROW


def test_add(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies["contacts.add"] = lambda params: {"ref": "3f9a1c0b", "total": 1}
    assert run(["contacts", "add", "dpop1", "ipn:2.0", "--rate", "2 Mbit/s", "--end", "+90 s", "--radiates"]) == 0
    assert capsys.readouterr().out == "added: 3f9a1c0b\n"
    assert asked(daemon, "contacts.add") == {
        "from": "dtn://dpop1/",
        "to": "ipn:2.0",
        "bearer": None,
        "start": "+0 s",
        "end": "+90 s",
        "rate": "2 Mbit/s",
        "delay": "0 s",
        "loss": "0 %",
        "confidence": "100 %",
        "radiates": True,
        "new_nodes": False,
    }


def test_rm(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies["contacts.remove"] = lambda params: {"removed": 2, "total": 5}
    assert run(["contacts", "rm", "3f9a1c0b", "00000000"]) == 0
    assert capsys.readouterr().out == "removed: 2, left: 5\n"
    assert asked(daemon, "contacts.remove")["refs"] == ["3f9a1c0b", "00000000"]


def test_import(daemon: FakeDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies["contacts.import"] = lambda params: {"total": 7, "warnings": ["line 3: passed over"]}
    plan = tmp_path / "contacts.ionrc"
    plan.write_bytes(b"#" * (1 << 20) + b"\n")
    assert run(["contacts", "import", str(plan), "--node", "1=dtn://dpop1/", "--replace"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("contacts of the plan: 7\n", "meshctl: line 3: passed over\n" * 1)
    pieces = [params for name, params in daemon.calls if name == "contacts.import"]
    assert [(len(each["data"]), each["is_last"]) for each in pieces] == [(1 << 20, False), (1, True)]
    assert (pieces[0]["form"], pieces[0]["nodes"], pieces[0]["replace"]) == ("ion", ["1=dtn://dpop1/"], True)


def test_import_of_standard_input(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.replies["contacts.import"] = lambda params: {"total": 0, "warnings": []}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert run(["contacts", "import", "-"]) == 0
    assert asked(daemon, "contacts.import")["form"] == "toml"


def test_a_refused_import_shows_every_line(
    daemon: FakeDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.refuse("contacts.import", "bad_params", "plan.toml:1: a; b\nplan.toml:9: c; d")
    (tmp_path / "plan.toml").write_text("")
    assert run(["contacts", "import", str(tmp_path / "plan.toml")]) == 2
    assert capsys.readouterr().err == "meshctl: plan.toml:1: a; b\nplan.toml:9: c; d\n"


def test_export(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    text = b"[[contact]]\nfrom = ...\n"

    def reply(params: dict[str, Any]) -> dict[str, Any]:
        offset = params["offset"]
        return {"data": text[offset : offset + 10], "size_bytes": len(text), "warnings": ["loss is left out"]}

    daemon.replies["contacts.export"] = reply
    assert run(["contacts", "export", "--form", "ion"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (text.decode(), "meshctl: loss is left out\n")
    assert run(["--json", "contacts", "export"]) == 0
    assert json.loads(capsys.readouterr().out) == {"plan": text.decode()}
