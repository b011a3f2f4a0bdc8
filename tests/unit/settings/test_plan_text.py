# SPDX-License-Identifier: Apache-2.0
"""Contact plans as text: TOML and commands of ION, read, written, and refused with their lines."""

import contextlib
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from meshd.routing.contact_plan import PLAN_END_S, ContactPlan, PlanError
from meshd.settings.plan_ion import parse_plan_ion_untrusted, render_plan_ion
from meshd.settings.plan_text import PLAN_TEXT_MAX_BYTES, decode_text
from meshd.settings.plan_toml import parse_plan_toml_untrusted, render_plan_toml
from meshd.settings.problem import ConfigurationError

NOW_S = 830_000_000.0
HOME, DPOP1 = Eid("dtn://home/"), Eid("dtn://dpop1/")
ONE = """\
[[contact]]
from = "dtn://dpop1/"
to = "dtn://home/"
bearer = "satcom0"
start = 2026-05-01T10:00:00.5Z
end = "+90.25 s"
rate = "2 Mbit/s"
delay = "0.27 s"
loss = "1.5 %"
confidence = "90 %"
radiates = true
"""


def toml(text: str) -> list[Contact]:
    return parse_plan_toml_untrusted(text, "plan.toml", NOW_S).contacts


def ion(text: str, names: dict[int, Eid] | None = None) -> list[Contact]:
    return parse_plan_ion_untrusted(text, "plan.ionrc", NOW_S, names).contacts


def refused_toml(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        toml(text)
    return str(caught.value)


def refused_ion(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        ion(text)
    return str(caught.value)


class TestToml:
    """`[[contact]]` tables."""

    def test_all_keys(self) -> None:
        start_s = 830_944_800.5
        assert toml(ONE) == [Contact(DPOP1, HOME, "satcom0", start_s, NOW_S + 90.25, 2_000_000, 0.27, 0.015, 0.9, True)]

    def test_what_may_be_left_out(self) -> None:
        [found] = toml(
            '[[contact]]\nfrom = "ipn:1.0"\nto = "ipn:2.0"\nstart = "2026-05-01T10:00:00Z"\nrate = "1 bit/s"\n'
        )
        assert found == Contact(Eid("ipn:1.0"), Eid("ipn:2.0"), "", 830_944_800.0, math.inf, 1, 0.0)

    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            (
                "2026-05-01T10:00:00.5Z",
                "2026-05-01T10:00:00",
                "plan.toml:5: contact[1].start: 2026-05-01T10:00:00 has no time zone",
            ),
            (
                "2026-05-01T10:00:00.5Z",
                '"tomorrow"',
                "plan.toml:5: contact[1].start: 'tomorrow' is no time in UTC; write one",
            ),
            (
                "2026-05-01T10:00:00.5Z",
                '"2026-02-30T10:00:00Z"',
                "plan.toml:5: contact[1].start: '2026-02-30T10:00:00Z' is no time (day",
            ),
            ("2026-05-01T10:00:00.5Z", "5", "plan.toml:5: contact[1].start: 5 is no time; write"),
            (
                '"+90.25 s"',
                '"+90.25"',
                "plan.toml:6: contact[1].end: '90.25' is no duration; write one such as '0.27 s'",
            ),
            ('"2 Mbit/s"', '"2"', "plan.toml:7: contact[1].rate: '2' has no unit"),
            ('"0.27 s"', "0.27", "plan.toml:8: contact[1].delay: 0.27 is no duration"),
            ('"1.5 %"', '"101 %"', "plan.toml:9: contact[1].loss: '101 %' is no share"),
            ('from = "dtn://dpop1/"\n', "", "plan.toml:1: contact[1].from: it is missing"),
            ("delay", "delays", "plan.toml:8: contact[1].delays: there is no such key; did you mean 'delay'?"),
            (
                "[[contact]]",
                "[[contacts]]",
                "plan.toml:1: contacts: there is no such table in a plan; did you mean 'contact'?",
            ),
            ("[[contact]]", "[[contact", "plan.toml:1: it is not valid TOML"),
        ],
    )
    def test_refused(self, before: str, after: str, expected: str) -> None:
        assert refused_toml(ONE.replace(before, after)).startswith(expected)

    def test_refused_by_the_plan_with_the_line_of_the_table(self) -> None:
        text = parse_plan_toml_untrusted(
            ONE + ONE.replace("2026-05-01T10:00:00.5Z", "3000-01-01T00:00:00Z"), "p", NOW_S
        )
        with pytest.raises(PlanError) as caught:
            ContactPlan(text.contacts)
        lines = str(text.explain(caught.value, "plan.toml")).splitlines()
        assert lines[0].startswith("plan.toml:1: end: it is not after the start; check whether")
        assert lines[1] == "plan.toml:12: start: it is not in the years 2000 to 2099; check the year"


class TestIon:
    """Commands of ionadmin."""

    def test_contacts_and_ranges(self) -> None:
        [out, back] = ion(
            "# a comment\n\na range +0 +3600 1 2 1.5\na contact +0 +3600 1 2 100000\n"
            "a contact 2026/05/01-10:00:00.25 2026/05/01-11:00:00 2 1 12.5 0.5\n"
            "a range 2026/05/01-09:00:00 2026/05/01-12:00:00 2 1 3\n"
        )
        assert out == Contact(Eid("ipn:1.0"), Eid("ipn:2.0"), "", NOW_S, NOW_S + 3600, 800_000, 1.5)
        start_s = 830_944_800.25
        assert back == Contact(Eid("ipn:2.0"), Eid("ipn:1.0"), "", start_s, start_s + 3599.75, 100, 3.0, confidence=0.5)

    def test_a_range_holds_for_both_ways(self) -> None:
        assert [each.owd_s for each in ion("a contact +0 +9 2 1 1\na range +0 +9 1 2 4\n")] == [4.0]

    def test_reference_and_names(self) -> None:
        text = "@ 2026/05/01-10:00:00\na contact +1.5 +9 1 7 1\na range +0 +9 1 7 0\n"
        [found] = ion(text, {7: HOME})
        assert (found.start_s, found.receiver) == (830_944_801.5, HOME)

    def test_a_delay_that_changes_cuts_the_contact(self) -> None:
        found = ion("a contact +0 +30 1 2 1\na range +0 +10 1 2 1\na range +10 +40 1 2 2\n")
        assert [(each.start_s - NOW_S, each.end_s - NOW_S, each.owd_s) for each in found] == [(0, 10, 1), (10, 30, 2)]

    def test_what_is_passed_over_is_told(self) -> None:
        text = "1 1 ''\nm horizon +0\na contact +0 +9 1 2 5\ns\n"
        assert parse_plan_ion_untrusted(text, "p", NOW_S).warnings == [
            "line 1: '1' says nothing about contacts and is passed over",
            "line 2: 'm' says nothing about contacts and is passed over",
            "line 4: 's' says nothing about contacts and is passed over",
            "line 3: no range tells its delay throughout, 0 s is taken",
        ]

    @pytest.mark.parametrize(
        ("command", "expected"),
        [
            (
                "a contact +0 +9 1 2",
                "plan.ionrc:1: a contact: it has 4 fields; write START STOP FROM TO BYTES_PER_SECOND",
            ),
            ("a contact 0 +9 1 2 5", "plan.ionrc:1: start: '0' is no time; write one such as +3600"),
            ("a contact +0 2026/13/01-00:00:00 1 2 5", "plan.ionrc:1: stop: '2026/13/01-00:00:00' is no time (month"),
            ("a contact +0 +9 0 2 5", "plan.ionrc:1: from: '0' is no node number; write one above 0"),
            ("a contact +0 +9 1 9999999999 5", "plan.ionrc:1: to: ipn:0.9999999999.0 is out of range"),
            ("a contact +0 +9 1 2 fast", "plan.ionrc:1: rate: 'fast' is no number"),
            ("a range +9 +0 1 2 5", "plan.ionrc:1: stop: it is not after the start"),
            ("a range +0 +9 1 2", "plan.ionrc:1: a range: it has 4 fields"),
            ("d contact 1 2 *", "plan.ionrc:1: d contact: it changes what a plan held before; remove it"),
            ("@ now", "plan.ionrc:1: time: 'now' is no time"),
        ],
    )
    def test_refused(self, command: str, expected: str) -> None:
        assert refused_ion(command + "\n").startswith(expected)

    def test_a_reversed_contact_is_left_to_the_plan_to_refuse(self) -> None:
        text = parse_plan_ion_untrusted("a range +0 +9 1 2 1\na contact +3 +1 1 2 5\n", "p", NOW_S)
        with pytest.raises(PlanError) as caught:
            ContactPlan(text.contacts)
        assert str(text.explain(caught.value, "plan.ionrc")).startswith("plan.ionrc:2: end: it is not after the start")

    def test_a_node_without_a_number_and_bearers_that_overlap(self) -> None:
        with pytest.raises(SettingsError, match="dtn://dpop1/ has no number"):
            render_plan_ion(toml(ONE))
        both = [Contact(Eid("ipn:1.0"), Eid("ipn:2.0"), bearer, 10.0, 20.0, 800, 0.0) for bearer in ("los0", "satcom0")]
        with pytest.raises(SettingsError, match="on different bearers overlap at 2000-01-01T00:00:10Z"):
            render_plan_ion(both)

    def test_what_is_left_out_is_told(self) -> None:
        text, warnings = render_plan_ion(toml(ONE), {DPOP1: 1, HOME: 2})
        assert text.splitlines() == [
            "a contact 2026/05/01-10:00:00.5 2026/04/20-11:34:50.25 1 2 250000 0.9",
            "a range 2026/05/01-10:00:00.5 2026/04/20-11:34:50.25 1 2 0.27",
        ]
        assert warnings == ["bearer is left out", "loss is left out", "radiates is left out"]


def test_too_long_or_no_text() -> None:
    with pytest.raises(ConfigurationError, match="p:1: it has more than"):
        decode_text(bytes(PLAN_TEXT_MAX_BYTES + 1), "p")
    with pytest.raises(ConfigurationError, match="p:2: it is not UTF-8 text"):
        decode_text(b"a\n\xff", "p")


MICROSECONDS = st.integers(1, int(PLAN_END_S) * 10**6 - 2 * 10**12)
CONTACTS = st.lists(
    st.builds(
        lambda pair, bearer, start, length, rate, owd, loss, confidence, radiates: Contact(
            pair[0],
            pair[1],
            bearer,
            start / 1e6,
            math.inf if length is None else (start + length) / 1e6,
            rate,
            owd / 1e6,
            loss / 1e6,
            confidence / 1e6,
            radiates,
        ),
        st.permutations([Eid("ipn:1.0"), Eid("ipn:2.0"), Eid("ipn:30.0")]).map(lambda nodes: nodes[:2]),
        st.sampled_from(("", "los0", "satcom0")),
        MICROSECONDS,
        st.none() | st.integers(1, 10**12),
        st.integers(1, 10**12),
        st.integers(0, 86_400 * 10**6),
        st.integers(0, 999_999),
        st.integers(1, 10**6),
        st.booleans(),
    ),
    max_size=4,
)


def held(contacts: list[Contact]) -> list[Contact]:
    """As many of them as a plan takes."""
    found = ContactPlan()
    for each in contacts:
        with contextlib.suppress(PlanError):
            found.add([each])
    return found.contacts()


@given(CONTACTS)
def test_toml_is_read_as_it_was_written(contacts: list[Contact]) -> None:
    kept = held(contacts)
    assert ContactPlan(toml(render_plan_toml(kept))).contacts() == kept


@given(CONTACTS)
def test_ion_is_read_as_it_was_written(contacts: list[Contact]) -> None:
    plain = [msgspec.structs.replace(each, bearer="", loss=0.0, radiates=False) for each in contacts]
    kept = held(plain)
    assert ContactPlan(ion(render_plan_ion(kept)[0])).contacts() == kept
