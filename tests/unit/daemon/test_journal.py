# SPDX-License-Identifier: Apache-2.0
"""The journal: one line an event, unambiguous, with a priority under systemd."""

import io
import re

import pytest

from meshd.daemon.journal import Journal


def written(kind: str, fields: dict[str, object], *, systemd: bool = True) -> str:
    """What the journal makes of one event."""
    stream = io.StringIO()
    Journal(stream, {"JOURNAL_STREAM": "8:1"} if systemd else {}).write(kind, fields)
    return stream.getvalue()


def test_a_person_sees_the_time() -> None:
    line = written("link.up", {"link": "lan0>dtn://dpop2/"}, systemd=False)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ link\.up link=lan0>dtn://dpop2/\n", line)


@pytest.mark.parametrize(
    ("kind", "priority"),
    [("link.up", 6), ("store.alarm", 2), ("store.failed", 2), ("config.refused", 4), ("bundle.malformed", 4)],
)
def test_systemd_sees_the_priority(kind: str, priority: int) -> None:
    assert written(kind, {}) == f"<{priority}>{kind}\n"


@pytest.mark.parametrize("kind", ["bundle.received", "bundles.forwarded", "message.queued"])
def test_daily_life_of_single_bundles_is_not_written(kind: str) -> None:
    assert written(kind, {"bundle": "0123456789ab"}) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        (5, "5"),
        (None, "None"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("line\nbreak", '"line\\nbreak"'),
        ("\x1b[31m", '"\\x1b[31m"'),
    ],
)
def test_a_value_can_not_forge_a_line(value: object, shown: str) -> None:
    assert written("x.y", {"reason": value}) == f"<6>x.y reason={shown}\n"


def test_stderr_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    Journal(environ={}).write("node.ready", {})
    assert capsys.readouterr().err.endswith("node.ready\n")
