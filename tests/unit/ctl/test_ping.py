# SPDX-License-Identifier: Apache-2.0
"""`meshctl ping`: whom it asks, what it makes of answers that come, come twice or do not come."""

import json
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.base.limits import PART_SIZE_BYTES
from meshd.ctl.commands.ping import SIZE_DEFAULT_BYTES, SIZE_MIN_BYTES, echo_service
from meshd.ctl.main import run
from tests.unit.client.fake_daemon import FakeDaemon


class Echoing(FakeDaemon):
    """Answers each message `times` times, once it has been sent."""

    times = 1
    damage = b""

    def _do_send_close(self, params: dict[str, Any]) -> Any:
        for copy in range(self.times):
            self.load(f"{params['submission']:08x}{copy:04x}", self.damage or bytes(self.sent[params["submission"]]))
        return super()._do_send_close(params)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Echoing]:
    fake = Echoing(tmp_path / "control.sock")
    with fake:
        monkeypatch.setenv("MESHD_SOCKET", str(fake.path))
        yield fake


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_answers_and_statistics(daemon: Echoing, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ping", "home", "-c", "3", "-i", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" time=")[0] for line in lines[:3]] == [
        f"{SIZE_DEFAULT_BYTES} bytes from dtn://dpop1/inbox: seq={number}" for number in range(3)
    ]
    assert lines[3].startswith("--- dtn://home/echo: 3 sent, 3 received, 0% lost")
    assert lines[4].startswith("rtt min/avg/max/mdev = ")
    opened = next(params for method, params in daemon.calls if method == "send.message")
    assert (opened["destination"], opened["report"], opened["lifetime_ms"]) == ("dtn://home/echo", False, 10_000)
    assert opened["endpoint"].startswith("dtn://dpop1/ping-")
    assert len(daemon.confirmed) == 3


def test_it_asks_for_each_answer_before_it_sends_and_for_none_after_the_last(daemon: Echoing) -> None:
    assert run(["ping", "home", "-c", "3", "-i", "0"]) == 0
    calls = [method for method, _ in daemon.calls if method in ("send.message", "recv.next", "recv.confirm")]
    for index in [index for index, method in enumerate(calls) if method == "send.message"]:
        assert calls[index - 1] == "recv.next"
    assert calls[-1] == "recv.confirm"


def test_json(daemon: Echoing, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ping", "home", "-c", "2", "-i", "0", "--size", "100", "--precedence", "flash", "--json"]) == 0
    first, second, figures = objects(capsys)
    assert [(each["sequence"], each["size_bytes"]) for each in (first, second)] == [(0, 100), (1, 100)]
    assert (figures["sent"], figures["received"], figures["loss_percent"]) == (2, 2, 0.0)
    assert figures["min_ms"] <= figures["avg_ms"] <= figures["max_ms"]


def test_no_answer_is_exit_code_6(daemon: Echoing, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.times = 0
    assert run(["ping", "home", "-c", "2", "-i", "0", "--timeout", "5ms", "--json"]) == 6
    (figures,) = objects(capsys)
    assert (figures["sent"], figures["received"], figures["loss_percent"], figures["avg_ms"]) == (2, 0, 100.0, None)


def test_what_comes_twice_or_is_not_ours_is_not_counted(daemon: Echoing, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.times = 2
    assert run(["ping", "home", "-c", "2", "-i", "0", "--json"]) == 0
    figures = objects(capsys)[-1]
    assert (figures["received"], figures["duplicates"]) == (2, 1)
    daemon.inbox.clear()
    daemon.damage = bytes(64)
    assert run(["ping", "home", "-c", "1", "-i", "0", "--timeout", "1s", "--json"]) == 6
    assert objects(capsys)[-1]["duplicates"] == 2


def test_a_refusal_ends_it(daemon: Echoing, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.refuse("send.message", "store_full", "the store is full")
    assert run(["ping", "home", "-c", "1"]) != 0
    assert "the store is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("home", "dtn://home/echo"),
        ("dtn://home/", "dtn://home/echo"),
        ("dtn://home/echo", "dtn://home/echo"),
        ("ipn:3", "ipn:3.7"),
        ("ipn:3.0", "ipn:3.7"),
        ("ipn:3.7", "ipn:3.7"),
        ("ipn:977000.3.0", "ipn:977000.3.7"),
    ],
)
def test_whom_to_ask(text: str, endpoint: str) -> None:
    assert echo_service(text) == endpoint


@pytest.mark.parametrize("text", ["", "home/echo", "ipn:x", "dtn:none", "a b"])
def test_whom_it_can_not_ask(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no node"):
        echo_service(text)


@pytest.mark.parametrize("size", ["0", str(SIZE_MIN_BYTES - 1), str(PART_SIZE_BYTES + 1), "x"])
def test_a_size_out_of_range(size: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["ping", "home", "--size", size])
    assert caught.value.code == 2
