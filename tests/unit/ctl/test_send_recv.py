# SPDX-License-Identifier: Apache-2.0
"""`meshctl send` and `recv`: what was sent stays sent, what was received is on disk, and restarts of the daemon."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.ctl.arguments import destination
from meshd.ctl.commands.send import normalise_wait
from meshd.ctl.main import run
from tests.unit.client.fake_daemon import BUNDLE, FakeDaemon


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    monkeypatch.setattr("meshd.ctl.reconnect.RECONNECT_PAUSE_S", 0.0)
    with FakeDaemon(tmp_path / "control.sock") as fake:
        monkeypatch.setenv("MESHD_SOCKET", str(fake.path))
        yield fake


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "report.txt"
    path.write_bytes(b"the report")
    return str(path)


def opened(daemon: FakeDaemon) -> dict[str, Any]:
    return next(params for method, params in daemon.calls if method == "send.open")


def answer_state(daemon: FakeDaemon, state: str, reason: str | None = None) -> None:
    daemon.replies["message.wait"] = lambda params: {
        "message": params["message"],
        "ref": BUNDLE["ref"],
        "state": state,
        "reason": reason,
    }


def test_a_file_is_sent(daemon: FakeDaemon, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["send", "home", file, "--precedence", "flash", "--lifetime", "2h", "--no-report"]) == 0
    assert daemon.sent[1] == b"the report"
    assert opened(daemon) == {
        "destination": "dtn://home/inbox",
        "precedence": "FLASH",
        "lifetime_ms": 7_200_000,
        "size_bytes": 10,
        "report": False,
        "endpoint": "inbox",
    }
    captured = capsys.readouterr()
    assert captured.out == f"{BUNDLE['id']}\n"
    assert "10 B queued for dtn://home/inbox" in captured.err


def test_standard_input_is_sent(daemon: FakeDaemon, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"from a pipe")
    os.close(write_end)
    with io.TextIOWrapper(io.FileIO(read_end)) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert run(["send", "home/app", "-"]) == 0
    assert daemon.sent[1] == b"from a pipe"
    assert (opened(daemon)["destination"], opened(daemon)["size_bytes"]) == ("dtn://home/app", None)


def test_json_is_one_object_a_line(daemon: FakeDaemon, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["send", "--json", "home", file, "--wait"]) == 0
    sent, state = map(json.loads, capsys.readouterr().out.splitlines())
    assert sent == {"message": BUNDLE["id"], "ref": BUNDLE["ref"], "parts": 1, "size_bytes": 10, "state": "queued"}
    assert state["state"] == "delivered"


@pytest.mark.parametrize(
    ("wanted", "state", "code"),
    [
        ("delivered", "delivered", 0),
        ("forwarded", "forwarded", 0),
        ("forwarded", "delivered", 0),
        ("delivered", "expired", 1),
        ("delivered", "refused", 4),
    ],
)
def test_waiting_ends_as_the_message_does(
    daemon: FakeDaemon, file: str, wanted: str, state: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_state(daemon, state, "because")
    assert run(["send", "home", file, "--wait", wanted]) == code
    captured = capsys.readouterr()
    assert captured.out == f"{BUNDLE['id']}\n"
    assert f"{state}: because" in captured.err


def test_a_bare_wait_does_not_swallow_the_destination(daemon: FakeDaemon, file: str) -> None:
    assert run(["send", "--wait", "home", file]) == 0
    assert ("message.wait", {"message": BUNDLE["id"], "state": "delivered", "timeout_s": None}) in daemon.calls
    assert normalise_wait(["a", "--", "--wait", "b"]) == ["a", "--", "--wait", "b"]


def test_a_timeout_leaves_it_sent(daemon: FakeDaemon, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.refuse("message.wait", "timeout")
    assert run(["send", "home", file, "--wait", "--timeout", "1s"]) == 6
    captured = capsys.readouterr()
    assert captured.out == f"{BUNDLE['id']}\n"
    assert "is sent, and not delivered yet" in captured.err


def test_waiting_outlives_a_restart(daemon: FakeDaemon, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.hang_up_on.extend(["message.wait"])
    assert run(["send", "home", file, "--wait"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{BUNDLE['id']}\n"
    assert captured.err.splitlines()[1:] == [
        "meshctl: meshd went away; waiting for it to come back",
        "meshctl: meshd is back",
        "delivered",
    ]
    assert len(daemon.sent) == 1


def test_a_daemon_that_stays_away_is_unreachable_at_the_timeout(
    daemon: FakeDaemon, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def go_away(_params: dict[str, Any]) -> None:
        daemon.path.unlink()
        daemon.drop_sessions()

    daemon.replies["message.wait"] = go_away
    assert run(["send", "home", file, "--wait", "--timeout", "50ms"]) == 3
    assert capsys.readouterr().out == f"{BUNDLE['id']}\n"


@pytest.mark.parametrize(("name", "code"), [("refused_by_emcon", 4), ("store_full", 1), ("bad_params", 2)])
def test_a_refusal_prints_no_id(
    daemon: FakeDaemon, file: str, name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.refuse("send.open", name)
    assert run(["send", "home", file]) == code
    assert capsys.readouterr().out == ""


def test_waiting_for_a_report_that_is_forbidden_is_refused(daemon: FakeDaemon, file: str) -> None:
    assert run(["send", "home", file, "--wait", "--no-report"]) == 2
    assert daemon.sent == {}


def test_a_missing_file_is_named(daemon: FakeDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["send", "home", str(tmp_path / "nothing")]) == 1
    assert "nothing: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "eid"),
    [
        ("home", "dtn://home/inbox"),
        ("home/", "dtn://home/inbox"),
        ("home/a/b", "dtn://home/a/b"),
        ("dtn://home/x", "dtn://home/x"),
        ("ipn:5.1", "ipn:5.1"),
    ],
)
def test_destinations_in_short(text: str, eid: str) -> None:
    assert destination(text) == eid


def test_one_message_is_received(daemon: FakeDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.load("aaaa", b"one")
    daemon.load("bbbb", b"two")
    assert run(["recv", "orders", "--out", str(tmp_path)]) == 0
    path = tmp_path / "dpop1-aaaa.bin"
    captured = capsys.readouterr()
    assert captured.out == f"{path}\n"
    assert captured.err == "3 B ROUTINE from dtn://dpop1/inbox\n"
    assert path.read_bytes() == b"one"
    assert ("recv.open", {"endpoint": "orders"}) in daemon.calls
    assert len(daemon.inbox) == 1


def test_several_are_received_as_json(daemon: FakeDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.load("aaaa", b"one")
    daemon.load("bbbb", b"two")
    assert run(["--json", "recv", "--out", str(tmp_path), "--count", "2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ref"] for line in lines] == ["aaaa", "bbbb"]
    assert [Path(line["path"]).read_bytes() for line in lines] == [b"one", b"two"]


def test_fewer_than_asked_for_is_a_timeout(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.load("aaaa", b"one")
    assert run(["recv", "--out", str(tmp_path), "--count", "2", "--timeout", "1s"]) == 6
    assert (tmp_path / "dpop1-aaaa.bin").exists()


@pytest.mark.parametrize(("loaded", "code"), [(0, 6), (1, 0)])
def test_following_until_nothing_comes(daemon: FakeDaemon, tmp_path: Path, loaded: int, code: int) -> None:
    for number in range(loaded):
        daemon.load(f"{number:04}", b"x")
    assert run(["recv", "--out", str(tmp_path), "--follow", "--timeout", "1s"]) == code


@pytest.mark.parametrize("step", ["recv.next", "recv.read", "recv.confirm"])
def test_following_outlives_a_restart_with_one_file_a_message(
    daemon: FakeDaemon, tmp_path: Path, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    daemon.load("aaaa", b"one")
    daemon.load("bbbb", b"two")
    daemon.hang_up_on.append(step)
    assert run(["recv", "--out", str(out), "--follow", "--count", "2"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["dpop1-aaaa.bin", "dpop1-bbbb.bin"]
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"{out}/dpop1-aaaa.bin", f"{out}/dpop1-bbbb.bin"]
    assert "went away" in captured.err


def test_without_follow_a_daemon_that_leaves_is_unreachable(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.load("aaaa", b"one")
    daemon.hang_up_on.append("recv.read")
    assert run(["recv", "--out", str(tmp_path)]) == 3
    assert len(daemon.inbox) == 1


def test_a_directory_that_is_not_there_is_named(
    daemon: FakeDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["recv", "--out", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is no directory" in capsys.readouterr().err
    assert daemon.calls == []
