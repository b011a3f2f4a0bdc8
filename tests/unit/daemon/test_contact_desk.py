# SPDX-License-Identifier: Apache-2.0
"""The contact plan of a daemon: edits, refusals, the file, and what the agent is told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from meshd.bundle.eid import Eid
from meshd.control.errors import ControlError
from meshd.control.methods import METHODS
from meshd.control.params import check_params
from meshd.daemon import contact_desk
from meshd.daemon.contact_desk import ContactDesk
from meshd.daemon.control_handler import SessionHandle
from meshd.node.events import ContactsChanged, Event
from meshd.routing.contact_plan import decode_plan_untrusted

NOW_MS = 830_944_800_000
SESSION = cast(SessionHandle, object())
OTHER = cast(SessionHandle, object())
A_CONTACT: dict[str, Any] = {
    "from": "dtn://dpop1/",
    "to": "dtn://home/",
    "start": "+10 s",
    "end": "+70 s",
    "rate": "1 Mbit/s",
}
FROM_HOME: dict[str, Any] = {"from": "dtn://home/"}
PLAN = b"""\
[[contact]]
from = "dtn://home/"
to = "dtn://dpop1/"
start = 2026-05-01T10:00:05Z
rate = "2 Mbit/s"

[[contact]]
from = "dtn://dpop1/"
to = "dtn://home/"
start = "+0 s"
end = "+10 s"
rate = "2 Mbit/s"
"""


class Desk:
    """A desk with what it needs."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "contacts.plan"
        self.now_ms = NOW_MS
        self.reports: list[str] = []
        self.events: list[Event] = []
        self.desk = ContactDesk(self.path, self._report, self.events.append, self._known, lambda: self.now_ms)

    def _report(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.reports.append(f"{kind} {fields}")

    def _known(self) -> frozenset[Eid]:
        return frozenset((Eid("dtn://dpop1/"), Eid("dtn://home/")))

    async def call(self, method: str, session: SessionHandle = SESSION, **params: Any) -> dict[str, Any]:
        """As the control server does."""
        serve = {
            "contacts.list": self.desk.list_contacts,
            "contacts.add": self.desk.add,
            "contacts.remove": self.desk.remove,
            "contacts.import": self.desk.import_plan,
            "contacts.export": self.desk.export,
        }[method]
        return await serve(session, check_params(method, METHODS[method].params, params))

    async def refusal(self, method: str, **params: Any) -> str:
        """The error's name and text."""
        with pytest.raises(ControlError) as caught:
            await self.call(method, **params)
        return f"{caught.value.name}: {caught.value.message}"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_added_listed_and_there_after_a_restart(desk: Desk) -> None:
    reply = await desk.call("contacts.add", **A_CONTACT)
    assert reply["total"] == 1
    assert desk.events == [ContactsChanged()]
    listed = await Desk(desk.path.parent).call("contacts.list")
    assert listed["total"] == 1
    assert listed["contacts"][0] == {
        "ref": reply["ref"],
        "from": "dtn://dpop1/",
        "to": "dtn://home/",
        "bearer": None,
        "state": "to come",
        "start_ms": NOW_MS + 946_684_800_000 + 10_000,
        "end_ms": NOW_MS + 946_684_800_000 + 70_000,
        "rate_bps": 1_000_000,
        "delay_s": 0.0,
        "loss": 0.0,
        "confidence": 1.0,
        "radiates": False,
    }
    for now_ms, state in ((NOW_MS + 10_000, "now"), (NOW_MS + 70_000, "over")):
        desk.now_ms = now_ms
        assert (await desk.call("contacts.list"))["contacts"][0]["state"] == state


async def test_the_plan_that_the_router_has_is_the_one_that_changes(desk: Desk) -> None:
    plan, version = desk.desk.plan, desk.desk.plan.version
    await desk.call("contacts.add", **A_CONTACT)
    assert desk.desk.plan is plan
    assert plan.version != version
    assert len(plan) == 1


async def test_refused_and_nothing_changed(desk: Desk) -> None:
    wrong = {**A_CONTACT, "rate": "5", "end": "soon"}
    text = await desk.refusal("contacts.add", **wrong)
    assert text.startswith("bad_params: end: 'soon' is no time in UTC; write one")
    assert "\nrate: '5' has no unit" in text
    unknown = {**A_CONTACT, "to": "dtn://hoem/"}
    assert "to: there is no node dtn://hoem/; name it in" in await desk.refusal("contacts.add", **unknown)
    assert (desk.events, desk.path.exists()) == ([], False)
    await desk.call("contacts.add", **unknown, new_nodes=True)
    await desk.call("contacts.add", **{**unknown, "start": "+80 s", "end": "+90 s"})
    assert len(desk.desk.plan) == 2


async def test_import_in_pieces_and_export(desk: Desk) -> None:
    await desk.call("contacts.import", data=PLAN[:50], is_last=False)
    await desk.call("contacts.import", OTHER, data=PLAN)
    assert len(desk.desk.plan) == 2
    await desk.call("contacts.import", data=PLAN[50:])
    exported = (await desk.call("contacts.export"))["data"]
    await desk.call("contacts.remove", all=True)
    assert len(desk.desk.plan) == 0
    await desk.call("contacts.import", data=exported)
    assert (await desk.call("contacts.export"))["data"] == exported


async def test_what_a_session_had_begun_ends_with_it(desk: Desk) -> None:
    await desk.call("contacts.import", data=b"nonsense", is_last=False)
    desk.desk.session_closed(SESSION)
    await desk.call("contacts.import", data=PLAN)
    assert len(desk.desk.plan) == 2


async def test_a_bad_import_names_its_lines_and_leaves_the_plan(desk: Desk) -> None:
    await desk.call("contacts.add", **A_CONTACT)
    version = desk.desk.plan.version
    bad = PLAN.replace(b'"+10 s"', b'"+20 s"') + PLAN.replace(b"2026-05-01T10:00:05Z", b"3000-05-01T10:00:05Z")
    text = await desk.refusal("contacts.import", data=bad, name="plan.toml")
    ref = (await desk.call("contacts.list"))["contacts"][0]["ref"]
    assert [line.split(";")[0] for line in text.splitlines()] == [
        f"bad_params: plan.toml:7: start: it overlaps contact {ref} from dtn://dpop1/ to dtn://home/",
        "plan.toml:13: start: it is not in the years 2000 to 2099",
    ]
    assert (desk.desk.plan.version, len(desk.desk.plan)) == (version, 1)


async def test_replaced(desk: Desk) -> None:
    await desk.call("contacts.add", **A_CONTACT)
    await desk.call("contacts.import", data=PLAN, replace=True)
    assert len(desk.desk.plan) == 2


async def test_ion_with_names(desk: Desk) -> None:
    text = b"a contact +0 +60 1 2 1000\na range +0 +60 1 2 1\nm horizon +0\n"
    names = ["1=dtn://dpop1/", "2=dtn://home/"]
    reply = await desk.call("contacts.import", data=text, form="ion", nodes=names)
    assert reply == {"total": 1, "warnings": ["line 3: 'm' says nothing about contacts and is passed over"]}
    exported = await desk.call("contacts.export", form="ion", nodes=names)
    assert exported["data"].startswith(b"a contact 2026/05/01-10:00:00 2026/05/01-10:01:00 1 2 1000\n")
    assert "dtn://dpop1/ has no number" in await desk.refusal("contacts.export", form="ion")
    assert "'x=1' names no node" in await desk.refusal("contacts.export", form="ion", nodes=["x=1"])


async def test_removed_by_name_and_by_nodes(desk: Desk) -> None:
    await desk.call("contacts.import", data=PLAN)
    ref = (await desk.call("contacts.list", limit=1))["contacts"][0]["ref"]
    assert (await desk.refusal("contacts.remove", refs=[ref, "00000000"])).startswith(
        "not_found: the plan has no contact 0"
    )
    assert await desk.call("contacts.remove", refs=[ref]) == {"removed": 1, "total": 1}
    assert await desk.call("contacts.remove", **FROM_HOME) == {"removed": 1, "total": 0}
    calls: list[dict[str, Any]] = [{}, {"refs": [ref], "all": True}, {"from": "dtn://home/", "all": True}]
    for params in calls:
        assert (await desk.refusal("contacts.remove", **params)).startswith("bad_params: contacts.remove: give either")
    assert (await desk.refusal("contacts.remove", to="home")).startswith("bad_params: 'home' is no endpoint ID")


async def test_what_is_long_over_goes_with_the_next_edit(desk: Desk) -> None:
    await desk.call("contacts.add", **A_CONTACT)
    desk.now_ms += 70_000 + 86_400_000
    await desk.call("contacts.add", **A_CONTACT)
    assert [each.start_s for each in decode_plan_untrusted(desk.path.read_bytes()).contacts()] == [
        desk.now_ms / 1000 + 10
    ]


async def test_what_is_long_over_when_it_is_imported_is_told(desk: Desk) -> None:
    past = PLAN.replace(b'"+0 s"', b"2026-04-01T10:00:00Z").replace(b'"+10 s"', b"2026-04-01T10:00:00.5Z")
    reply = await desk.call("contacts.import", data=past)
    assert reply == {"total": 1, "warnings": ["1 contacts ended more than a day ago and are left out"]}


async def test_a_damaged_file_is_put_aside(desk: Desk) -> None:
    desk.path.write_bytes(b"\x00damage")
    again = Desk(desk.path.parent)
    assert len(again.desk.plan) == 0
    assert again.reports[0].startswith("contacts.alarm")
    assert desk.path.with_suffix(".damaged").read_bytes() == b"\x00damage"


async def test_a_disk_that_does_not_take_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(contact_desk, "write_state", full)
    assert "can't be written: No space left on device" in await desk.refusal("contacts.add", **A_CONTACT)
    assert (len(desk.desk.plan), desk.events) == (0, [])
