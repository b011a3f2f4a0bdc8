# SPDX-License-Identifier: Apache-2.0
"""The contact plan: what it takes, what it refuses, and its file."""

import math

import msgspec
import pytest

from meshd.routing.contact import Contact
from meshd.routing.contact_plan import (
    CONTACTS_MAX,
    PLAN_END_S,
    ContactPlan,
    PlanError,
    contact_ref,
    decode_plan_untrusted,
    encode_plan,
)
from tests.unit.routing.contact_samples import contact, node, plan


def refusal(contacts: list[Contact], held: ContactPlan | None = None) -> list[tuple[int, str, str]]:
    """Position, key and reason of each problem."""
    with pytest.raises(PlanError) as caught:
        (held or ContactPlan()).add(contacts)
    return [(each.position, each.key, each.reason) for each in caught.value.problems]


def test_sorted_and_counted() -> None:
    held = ContactPlan(plan((1, 2, 50, 60), (2, 1, 10, 20), (1, 2, 10, 20)))
    assert [each.start_s for each in held.contacts()] == [10, 10, 50]
    assert (len(held), held.nodes()) == (3, {node(1), node(2)})


def test_each_change_is_another_version_and_nothing_new_is_none() -> None:
    held = ContactPlan(plan((1, 2, 10, 20)))
    versions = [held.version]
    held.add(plan((1, 2, 20, 30)))
    versions.append(held.version)
    held.add(plan((1, 2, 10, 20)))
    assert held.version == versions[-1]
    held.remove({contact_ref(contact((1, 2, 10, 20)))})
    versions.append(held.version)
    assert len(set(versions)) == 3


def test_overlaps_are_refused_on_one_link_only() -> None:
    held = ContactPlan(plan((1, 2, 10, 20)))
    for row in ((1, 2, 5, 11), (1, 2, 19, 30), (1, 2, 12, 13), (1, 2, 5, 30), (1, 2, 10, 21)):
        [(position, key, reason)] = refusal(plan(row), held)
        assert (position, key) == (0, "start")
        assert reason.startswith(f"it overlaps contact {contact_ref(held.contacts()[0])} from ipn:1.0 to ipn:2.0")
    held.add([contact((1, 2, 5, 30), "los0"), *plan((2, 1, 5, 30), (1, 2, 20, 30), (1, 2, 5, 10))])
    assert len(held) == 5


def test_overlaps_within_an_edit() -> None:
    assert [each[0] for each in refusal(plan((1, 2, 10, 20), (1, 2, 30, 40), (1, 2, 15, 25)))] == [2]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"end_s": 9.0}, "end"),
        ({"end_s": 10.0}, "end"),
        ({"end_s": 31_556_952_000.0}, "end"),
        ({"start_s": 31_556_952_000.0, "end_s": math.inf}, "start"),
        ({"start_s": -1.0}, "start"),
        ({"start_s": math.nan}, "start"),
        ({"end_s": math.nan}, "end"),
        ({"receiver": node(1)}, "to"),
        ({"rate_bps": 0}, "rate"),
        ({"loss": 1.0}, "loss"),
        ({"confidence": 0.0}, "confidence"),
        ({"owd_s": -0.1}, "delay"),
        ({"owd_s": math.inf}, "delay"),
        ({"bearer": "b" * 33}, "bearer"),
    ],
)
def test_impossible_contacts(changes: dict[str, object], key: str) -> None:
    wrong = msgspec.structs.replace(contact((1, 2, 10, 20)), **changes)
    assert [each[1] for each in refusal([wrong])] == [key]


def test_unknown_nodes() -> None:
    held = ContactPlan()
    with pytest.raises(PlanError, match=r"to: there is no node ipn:3\.0; name it in the configuration"):
        held.add(plan((1, 2, 0.5, 10), (1, 3, 0.5, 10)), {node(1), node(2)})
    assert len(held) == 0


def test_nothing_is_half_taken_over() -> None:
    held = ContactPlan(plan((1, 2, 10, 20)))
    before = held.contacts(), held.version
    assert len(refusal(plan((1, 2, 30, 40), (1, 2, 60, 50), (1, 1, 5, 6)), held)) == 2
    assert (held.contacts(), held.version, len(held)) == (*before, 1)


def test_too_many() -> None:
    rows = [contact((1, 2, 10.0 + each, 10.5 + each)) for each in range(CONTACTS_MAX + 1)]
    assert refusal(rows)[0][1:] == ("contacts", f"{CONTACTS_MAX + 1} are too many")


def test_replaced_as_a_whole() -> None:
    held = ContactPlan(plan((1, 2, 10, 20)))
    held.add(plan((1, 2, 15, 25)), replaces=True)
    assert [(each.start_s, each.end_s) for each in held.contacts()] == [(15, 25)]


def test_remove() -> None:
    held = ContactPlan(plan((1, 2, 10, 20), (1, 2, 30, 40), (1, 3, 10, 20), (2, 3, 10, 20)))
    assert [each.start_s for each in held.remove_between(node(1), node(2))] == [10, 30]
    assert held.remove_between(node(4), None) == []
    assert held.forget_before(20.0) == 2
    assert len(held) == 0


def test_written_and_read_again() -> None:
    rows = [contact((1, 2, 820_454_400.123456, math.inf), "los0"), contact((2, 1, 10, PLAN_END_S - 1, 9600, 0.27))]
    rows[1] = msgspec.structs.replace(rows[1], loss=0.015, confidence=0.9, radiates=True)
    held = ContactPlan(rows)
    assert decode_plan_untrusted(encode_plan(held)).contacts() == held.contacts()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        msgspec.msgpack.encode((2, [])),
        msgspec.msgpack.encode((1, [("ipn:1.0",)])),
        msgspec.msgpack.encode((1, [("ipn:1.1", "ipn:2.0", "", 1.0, 2.0, 9, 0.0, 0.0, 1.0, False)])),
        msgspec.msgpack.encode((1, [("ipn:1.0", "ipn:2.0", "", 3.0, 2.0, 9, 0.0, 0.0, 1.0, False)])),
    ],
)
def test_damaged_files(data: bytes) -> None:
    with pytest.raises(PlanError):
        decode_plan_untrusted(data)
