# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: contact plans as TOML, as commands of ION and as their file: a plan, or an error that says where."""

from collections.abc import Callable

from meshd.routing.contact import Contact
from meshd.routing.contact_plan import ContactPlan, PlanError, decode_plan_untrusted, encode_plan
from meshd.settings.plan_ion import parse_plan_ion_untrusted, render_plan_ion
from meshd.settings.plan_text import PlanText, decode_text
from meshd.settings.plan_toml import parse_plan_toml_untrusted, render_plan_toml
from meshd.settings.problem import ConfigurationError

NAME = "fuzz.plan"
NOW_S = 830_000_000.0


def check(data: bytes) -> None:
    """One input: the first byte chooses the form."""
    kind, content = data[:1], data[1:]
    if kind == b"f":
        _check_file(content)
    elif kind == b"i":
        _check_ion(content)
    else:
        _check_toml(content)


def _check_file(data: bytes) -> None:
    try:
        plan = decode_plan_untrusted(data)
    except PlanError:
        return
    assert decode_plan_untrusted(encode_plan(plan)).contacts() == plan.contacts()


def _check_ion(data: bytes) -> None:
    contacts = _contacts(data, lambda text: parse_plan_ion_untrusted(text, NAME, NOW_S))
    again = parse_plan_ion_untrusted(render_plan_ion(contacts)[0], NAME, 0.0)
    assert ContactPlan(again.contacts).contacts() == contacts


def _check_toml(data: bytes) -> None:
    contacts = _contacts(data, lambda text: parse_plan_toml_untrusted(text, NAME, NOW_S))
    again = parse_plan_toml_untrusted(render_plan_toml(contacts), NAME, 0.0)
    assert ContactPlan(again.contacts).contacts() == contacts


def _contacts(data: bytes, parse: Callable[[str], PlanText]) -> list[Contact]:
    """What a plan takes over of it; none when it is refused, with an error that names the file."""
    read, plan, refusal = PlanText(), ContactPlan(), f"{NAME}:"
    try:
        read = parse(decode_text(data, NAME))
        plan.add(read.contacts)
    except ConfigurationError as error:
        refusal = str(error)
    except PlanError as error:
        refusal = str(read.explain(error, NAME))
    assert refusal.startswith(f"{NAME}:"), "an error that does not name the file"
    return plan.contacts()


def seeds() -> dict[str, bytes]:
    """Small plans of each form."""
    toml = (
        b't[[contact]]\nfrom = "dtn://dpop1/"\nto = "dtn://home/"\nbearer = "satcom0"\nstart = 2026-05-01T10:00:00.5Z\n'
        b'end = "+90.5 s"\nrate = "2 Mbit/s"\ndelay = "0.27 s"\nloss = "1.5 %"\nconfidence = "90 %"\nradiates = true\n'
    )
    ion = (
        b"i# comment\n@ 2026/05/01-10:00:00\na contact +0 +3600 1 2 100000 0.9\na range +0 +1800 1 2 1\n"
        b"a range +1800 +3600 1 2 1.5\nm horizon +0\na contact 2026/05/01-10:00:00.5 2026/05/01-11:00:00 2 1 5\n"
    )
    plan = ContactPlan(
        parse_plan_toml_untrusted(toml[1:].decode().replace("+90.5 s", "+9000000 s"), NAME, NOW_S).contacts
    )
    return {"toml": toml, "ion": ion, "file": b"f" + encode_plan(plan), "delete": b"id contact 1 2 *\n"}


def dictionary() -> list[bytes]:
    """Words of all forms."""
    words = "[[contact]] from to bearer start end rate delay loss confidence radiates = true dtn://a/ ipn:1.0 a contact"
    values = 'range +0 +3600 @ 2026/05/01-10:00:00 2026-05-01T10:00:00Z "+1 s" "1 bit/s" "5 %" 9999 1e9 inf nan'
    return [word.encode() for word in (words + " " + values).split()]
