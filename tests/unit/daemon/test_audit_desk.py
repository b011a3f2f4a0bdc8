# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of the audit log: what waits for it and what does not, a full disk, floods, and what is written."""

from pathlib import Path
from typing import Any, cast

import pytest
import trio

from meshd.base.errors import AuditError
from meshd.control.errors import ControlError
from meshd.control.roles import Rights, Role
from meshd.daemon import audit_desk, state_file
from meshd.daemon.audit_desk import AuditDesk, summarise
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.control_peer import Peer
from meshd.security.audit_chain import HeadError

ALICE = Peer(42, 1000, 1000, frozenset((1000,)), "alice")
OPERATOR = Rights(frozenset((Role.VIEWER, Role.OPERATOR)))
NOBODY = cast("SessionHandle", None)
"""The desk does not ask who reads: the control server has."""


class Desk:
    """A desk on a disk that can be full."""

    def __init__(self, directory: Path) -> None:
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.is_full = False
        self.directory = directory
        self.desk = AuditDesk(directory, lambda *report: self.reports.append(report), lambda: False)
        self.desk._log._write_file = self.write

    def write(self, path: Path, data: bytes) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        state_file.write_state(path, data)

    async def entries(self, **params: Any) -> list[dict[str, Any]]:
        asked = {"before": None, "since_ms": None, "limit": 100} | params
        reply = await self.desk.list_entries(NOBODY, asked)
        return cast("list[dict[str, Any]]", reply["entries"])

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.reports]


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    await made.desk.open()
    return made


async def test_an_entry_says_who_did_what_when_and_what_came_of_it(desk: Desk) -> None:
    desk.desk.done(ALICE, OPERATOR, "emcon.set", {"profile": "silent", "reason": None}, "ok")
    (entry,) = await desk.entries()
    assert entry.pop("time_ms") > 1_700_000_000_000
    assert len(entry.pop("hash")) == 64
    assert entry == {
        "number": 1,
        "clock_trusted": False,
        "uid": 1000,
        "user": "alice",
        "pid": 42,
        "role": "operator",
        "action": "emcon.set",
        "outcome": "ok",
        "details": {"profile": "silent"},
    }


def test_no_content_gets_into_the_log() -> None:
    assert summarise(
        {"data": b"secret", "text": "x" * 300, "refs": [str(each) for each in range(20)], "none": None}
    ) == {
        "data": "6 bytes",
        "text": "x" * 200 + "...",
        "refs": [*"01234567", "and 12 more"],
    }


async def test_to_note_never_waits_and_the_task_writes_it(desk: Desk, nursery: trio.Nursery) -> None:
    await nursery.start(desk.desk.run)
    desk.desk.note("emcon.order", {"profile": "silent"})
    with trio.fail_after(30):
        while desk.desk.status()["waiting"]:
            await trio.lowlevel.checkpoint()
    assert desk.desk.status()["head"].startswith("1:")


async def test_to_append_is_to_have_it_on_the_disk_with_all_before_it(desk: Desk) -> None:
    desk.desk.note("first", {})
    await desk.desk.append("emcon.opening", {"profile": "unrestricted"})
    assert desk.desk.status()["waiting"] == 0
    assert [entry["action"] for entry in await desk.entries()] == ["emcon.opening", "first"]


async def test_a_full_disk_refuses_what_waits_takes_what_does_not_and_alarms_once(desk: Desk) -> None:
    desk.is_full = True
    desk.desk.note("emcon.order", {"profile": "silent"})
    for _ in range(2):
        with pytest.raises(AuditError, match="No space left"):
            await desk.desk.append("emcon.opening", {})
    assert desk.kinds() == ["audit.alarm"]
    assert "No space left" in desk.desk.status()["problem"]
    desk.is_full = False
    await desk.desk.close()
    assert desk.kinds() == ["audit.alarm", "audit.mended"]
    assert desk.desk.status()["problem"] is None
    actions = [entry["action"] for entry in await desk.entries()]
    assert actions[-1] == "emcon.order"
    assert (await desk.desk.verify(NOBODY, {"head": None}))["good"]


async def test_what_the_queue_does_not_hold_is_counted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_desk, "QUEUE_MAX", 3)
    for number in range(5):
        desk.desk.note("x", {"number": number})
    with pytest.raises(AuditError, match="takes no entries"):
        await desk.desk.append("emcon.opening", {})
    await desk.entries()
    desk.desk.note("next", {})
    newest = (await desk.entries())[0]
    assert (newest["action"], newest["entries_lost"]) == ("next", 3)


async def test_who_may_nothing_can_not_flood_the_log(desk: Desk) -> None:
    viewer = Rights(frozenset((Role.VIEWER,)))
    for _ in range(100):
        desk.desk.refused(ALICE, viewer, "emcon.set", {"profile": "unrestricted"})
    entries = await desk.entries()
    assert {(entry["outcome"], entry["role"]) for entry in entries} == {("unauthorised", "viewer")}
    assert len(entries) == audit_desk.REFUSALS_AT_ONCE
    desk.desk.refused(Peer(1, 1001, 1, frozenset()), viewer, "reload", {})
    assert (await desk.entries())[0]["refusals_left_out"] == 100 - audit_desk.REFUSALS_AT_ONCE


async def test_entries_come_in_pages_and_since_a_time(desk: Desk) -> None:
    for number in range(5):
        desk.desk.note("x", {"number": number})
    page = await desk.desk.list_entries(NOBODY, {"before": None, "since_ms": None, "limit": 2})
    assert ([entry["number"] for entry in page["entries"]], page["more"]) == ([5, 4], True)
    page = await desk.desk.list_entries(NOBODY, {"before": 4, "since_ms": None, "limit": 3})
    assert ([entry["number"] for entry in page["entries"]], page["more"]) == ([3, 2, 1], False)
    assert await desk.entries(since_ms=1 << 60) == []


async def test_a_noted_head_is_checked(desk: Desk) -> None:
    await desk.desk.append("x", {})
    head = desk.desk.status()["head"]
    assert (await desk.desk.verify(NOBODY, {"head": head})) == {"good": True, "rows": 1, "head": head, "problems": []}
    other = "1:" + "00" * 32
    assert not (await desk.desk.verify(NOBODY, {"head": other}))["good"]
    with pytest.raises(ControlError) as caught:
        await desk.desk.verify(NOBODY, {"head": "x"})
    assert caught.value.name == "bad_params"
    assert isinstance(caught.value.__cause__, HeadError)


async def test_a_damaged_log_is_an_alarm_and_an_entry(desk: Desk) -> None:
    await desk.desk.append("x", {})
    await desk.desk.close()
    (desk.directory / "audit.db").write_bytes(b"rubbish" * 500)
    again = Desk(desk.directory)
    await again.desk.open()
    assert again.kinds() == ["audit.alarm", "audit.alarm"]
    (entry,) = await again.entries()
    assert (entry["action"], entry["number"]) == ("audit.damaged", 2)
