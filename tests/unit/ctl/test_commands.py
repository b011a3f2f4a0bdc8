# SPDX-License-Identifier: Apache-2.0
"""The commands that show and order, against a fake daemon: what is written where, and with which exit code."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.ctl.main import run
from tests.unit.client.fake_daemon import BUNDLE, EMCON, HISTORY, FakeDaemon

LINK = {
    "link": "satcom0>home",
    "bearer": "satcom0",
    "kind": "satcom",
    "neighbour": "dtn://home/",
    "state": "up",
    "posture": "OPEN",
    "since_s": 90.0,
    "queued_bundles": 2,
    "queued_bytes": 2048,
    "in_flight_bundles": 1,
    "sent_bundles": 4,
    "sent_bytes": 4096,
    "received_bundles": 0,
    "received_bytes": 0,
    "rate_bps": 256_000,
    "reason": None,
    "score": {
        "rate_bps": 204_800,
        "loss_out": 0.05,
        "loss_in": 0.01,
        "owd_s": 0.306,
        "availability": 0.98,
        "mean_outage_s": 12.0,
        "expected_1kib_s": 0.71,
        "expected_1mib_s": 43.912,
    },
    "fountain": {
        "peer": "silent on order",
        "rate_bps": 1_834_000,
        "rtt_s": 0.613,
        "loss_out": 0.0512,
        "loss_in": 0.0,
        "repair_overhead": 0.071,
        "open_objects_out": 3,
        "open_objects_in": 0,
        "late_symbols": 2,
        "decode_failures": 0,
        "objects_without_room": 0,
        "lost_here": 1,
    },
}
PEER = {
    "node": "dtn://home/",
    "state": "silent",
    "bearers": [{"bearer": "satcom0", "state": "up", "address": None}],
    "queued_bundles": 2,
    "queued_bytes": 2048,
    "last_heard_s": None,
}


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "control.sock") as fake:
        monkeypatch.setenv("MESHD_SOCKET", str(fake.path))
        fake.replies |= {
            "links": lambda _: {"links": [LINK]},
            "peers": lambda _: {"peers": [PEER]},
            "bundles.explain": lambda _: {
                **{key: BUNDLE[key] for key in ("id", "ref", "state")},
                "summary": "it waits for satcom0",
                "steps": ["satcom0 is RX_ONLY"],
                "history": HISTORY,
            },
            "bundles.cancel": lambda _: {"cancelled": 1},
            "reload": lambda _: {"changed": ["route"], "needs_restart": ["node.id"]},
            "emcon.set": lambda _: EMCON,
        }
        yield fake


def text(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(list(argv)) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    return json.loads(text(capsys, *argv, "--json"))


def test_status(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    lines = dict(line.split(maxsplit=1) for line in text(capsys, "status").splitlines())
    assert lines["node"] == "dtn://dpop1/"
    assert lines["clock"] == "2026-01-02T03:04:05Z, trusted"
    assert lines["emcon"] == "quiet: satcom0 RX_ONLY"
    assert lines["links"] == "1 of 2 up"
    assert lines["store"] == "3 bundles, 2 KiB of 8 GiB"


def test_tables_are_aligned(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    head, row, _, score_head, score = text(capsys, "links").splitlines()
    assert row[head.index("STATE") :].startswith("up ")
    assert row.endswith("-")
    assert score_head.split()[:4] == ["BEARER", "NEIGHBOUR", "GOODPUT", "LOSS"]
    assert score.split("kbit/s")[1].split() == ["5.0%", "1.0%", "306.0", "ms", "98.0%", "0.710", "s", "43.912", "s"]
    head, row = text(capsys, "peers").splitlines()
    assert row[head.index("STATE") :].startswith("silent")
    assert row.endswith("never")


def test_what_fountain_links_measure(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies["links"] = lambda _: {"links": [LINK, LINK | {"bearer": "lan0", "fountain": None}]}
    lines = text(capsys, "links", "--verbose").splitlines()
    heads = [line.split()[0] for line in lines if line.strip()]
    assert heads == [*2 * ["BEARER", "satcom0", "lan0"], "BEARER", "satcom0"]
    assert lines[-1].split()[-12:] == ["1834", "kbit/s", "613", "ms", "5.1%", "0.0%", "7.1%", "3", "/", "0", "0", "1"]


def test_an_empty_table_is_its_head(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies["links"] = lambda _: {"links": []}
    assert text(capsys, "links").startswith("BEARER")


def test_json_is_what_the_daemon_said(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys, "links") == {"links": [LINK]}
    assert as_json(capsys, "peers") == {"peers": [PEER]}
    assert as_json(capsys, "bundles", "ls") == {"bundles": [BUNDLE], "total": 5}
    assert as_json(capsys, "bundles", "show", "3f9a")["history"] == HISTORY
    assert as_json(capsys, "bundles", "cancel", "3f9a") == {"cancelled": 1}
    assert as_json(capsys, "explain", "3f9a")["steps"] == ["satcom0 is RX_ONLY"]
    assert as_json(capsys, "emcon", "status") == EMCON
    assert as_json(capsys, "emcon", "set", "open") == EMCON
    assert as_json(capsys, "reload") == {"changed": ["route"], "needs_restart": ["node.id"]}


def test_bundles(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundles", "ls", "--to", "home", "--limit", "7"]) == 0
    captured = capsys.readouterr()
    assert "3f9a1c0be2d4  queued" in captured.out
    assert "1 of 5 bundles" in captured.err
    assert daemon.calls[-1] == ("bundles.list", {"limit": 7, "destination": "dtn://home/inbox", "state": None})
    shown = text(capsys, "bundles", "show", "3f9a")
    assert "size         1.5 KiB" in shown
    assert "flags        a, b" in shown
    assert "queued for satcom0" in shown
    explained = text(capsys, "explain", "3f9a")
    assert explained.startswith("dtn://dpop1/inbox@1.0 (3f9a1c0be2d4) is queued: it waits for satcom0\n")
    assert run(["bundles", "cancel", "3f9a"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "1 bundle cancelled\n")


def test_what_a_message_says_cannot_steer_the_terminal(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    evil = {**BUNDLE, "source": "dtn://x/\x1b[2J\x9b\u202e"}
    daemon.replies["bundles.list"] = lambda _: {"bundles": [evil], "total": 1}
    shown = text(capsys, "bundles", "ls")
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)


def test_emcon(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    shown = text(capsys, "emcon", "set", "quiet-radio", "--for", "10min", "--reason", "ridge")
    assert daemon.calls[-1] == (
        "emcon.set",
        {"profile": "quiet-radio", "for_s": 600.0, "until_ms": None, "reason": "ridge", "announce": False},
    )
    assert "closed" in shown
    assert "further notice" in shown


def test_an_unknown_profile_is_suggested_the_nearest(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.refuse("emcon.set", "not_found", "there is no profile 'quiet-rado'")
    assert run(["emcon", "set", "quiet-rado"]) == 5
    assert "did you mean 'quiet-radio'?" in capsys.readouterr().err


def event(seq: int, lost: int = 0) -> dict[str, Any]:
    return {"seq": seq, "time_ms": 0, "kind": "link.up", "fields": {"link": "satcom0"}, "lost": lost}


def test_recent_events(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies["events.subscribe"] = lambda _: {"notify": [event(1), event(9, lost=7)]}
    assert run(["events", "--kind", "link", "--replay", "5"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "1970-01-01T00:00:00Z  link.up              link=satcom0"
    assert "7 events lost" in captured.err
    assert daemon.calls[-1] == ("events.subscribe", {"kinds": ["link"], "replay": 5})


def test_followed_events_outlive_a_restart(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshd.ctl.reconnect.RECONNECT_PAUSE_S", 0.0)
    replays: list[int] = []

    def subscribe(params: dict[str, Any]) -> Any:
        replays.append(params["replay"])
        return {"notify": [event(len(replays))]}

    def write(got: Any, _out: Any) -> None:
        if got.seq == 3:
            raise KeyboardInterrupt
        daemon.drop_sessions()

    daemon.replies["events.subscribe"] = subscribe
    monkeypatch.setattr("meshd.ctl.commands.events._write", write)
    with pytest.raises(KeyboardInterrupt):
        run(["events", "--follow", "--replay", "4"])
    assert replays == [4, 0, 0]
    assert "went away" in capsys.readouterr().err


def dump_of(name: str, tmp_path: Path, data: bytes) -> str:
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


def test_a_malformed_bundle_is_exit_code_1_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = dump_of("b.cbor", tmp_path, b"this is no bundle")
    assert run(["bundle", "dump", name]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"meshctl: {name}: ")
    assert captured.err.count("\n") == 1
    assert run(["bundle", "dump", "--json", name]) == 1
    assert json.loads(capsys.readouterr().out)["errors"]


def test_sound_bundles_are_shown(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHD_SOCKET", str(tmp_path / "no daemon is needed"))
    vectors = repository / "tests" / "vectors" / "bundles"
    for name in ("minimal", "all_blocks", "fragment"):
        lines = (vectors / f"{name}.hex").read_text().splitlines()
        file = dump_of(name, tmp_path, bytes.fromhex("".join(line.partition("#")[0] for line in lines)))
        expected = json.loads((vectors / f"{name}.json").read_text())
        assert as_json(capsys, "bundle", "dump", file) == expected
        assert expected["primary"]["destination"] in text(capsys, "bundle", "dump", file)


def test_a_bundle_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "dump", str(tmp_path / "nothing")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_a_table_too_wide_for_the_terminal_keeps_its_words(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    assert run(["links"]) == 0
    assert "dtn://home/" in terminal.getvalue()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("with_rich", [True, False])
def test_a_terminal_gets_a_table_with_or_without_rich(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, with_rich: bool
) -> None:
    if not with_rich:
        for name in ("rich", "rich.console", "rich.table", "rich.text"):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    assert run(["links"]) == 0
    shown = terminal.getvalue()
    assert "satcom0" in shown
    assert ("─" in shown) is with_rich


def test_a_dry_run_orders_nothing(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    bearers = [{"bearer": "sat0", "posture": "OPEN", "then": "RX_ONLY", "restriction": None}]
    preview = {"bearers": bearers, "cut_off": ["dtn://b/"], "waiting_bundles": 3, "waiting_bytes": 4096}
    daemon.replies["emcon.preview"] = lambda _: preview
    shown = text(capsys, "emcon", "set", "silent", "--dry-run")
    assert "RX_ONLY" in shown
    assert "dtn://b/" in shown
    assert [name for name, _ in daemon.calls if name.startswith("emcon.")] == ["emcon.preview"]


def test_a_schedule_is_ordered(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies["emcon.schedule"] = lambda _: EMCON
    row = "unrestricted from 00:00 for 5min every 1h"
    text(capsys, "emcon", "schedule", row, "--margin", "3s", "--until", "2026-05-01T10:00:00Z")
    name, params = daemon.calls[-1]
    assert name == "emcon.schedule"
    assert (params["rows"], params["otherwise"], params["margin_s"]) == ([row], "silent", 3.0)
    assert params["until_ms"] == 1_777_629_600_000


def test_no_schedule_is_said(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert text(capsys, "emcon", "schedule") == "there is no schedule\n"


def test_a_neighbour_is_said_to_be_silent(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies |= {"peers.set_silent": lambda _: {}, "peers.clear_silent": lambda _: {}}
    text(capsys, "peers", "set-silent", "home")
    assert daemon.calls[-1] == ("peers.set_silent", {"node": "dtn://home/", "until_ms": None})
    text(capsys, "peers", "clear-silent", "home")
    assert daemon.calls[-1] == ("peers.clear_silent", {"node": "dtn://home/"})
