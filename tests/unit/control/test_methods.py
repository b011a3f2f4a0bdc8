# SPDX-License-Identifier: Apache-2.0
"""The tables of methods, parameters and errors."""

import math
from typing import Any

import pytest

from meshd.control.errors import ERRORS, ControlError, error_from_wire
from meshd.control.methods import METHODS, introspection
from meshd.control.params import check_params
from meshd.control.roles import Role

READ_ONLY = {
    "hello",
    "introspect",
    "status",
    "peers",
    "links",
    "message.wait",
    "bundles.list",
    "bundles.show",
    "bundles.explain",
    "contacts.list",
    "contacts.export",
    "routes.list",
    "streams.list",
    "emcon.plan",
    "emcon.preview",
    "emcon.status",
    "emcon.verify",
    "events.subscribe",
}


def check(method: str, **params: Any) -> dict[str, Any]:
    return check_params(method, METHODS[method].params, params)


def test_whatever_is_not_known_to_read_only_needs_the_right_to_change() -> None:
    assert {name for name, spec in METHODS.items() if spec.role is Role.VIEWER} == READ_ONLY


def test_what_changes_the_node_is_on_record_and_messages_are_not() -> None:
    changing = {name for name, spec in METHODS.items() if spec.role in {Role.OPERATOR, Role.ADMIN}}
    assert {name for name in changing if not METHODS[name].audited} == {
        name for name in METHODS if name.startswith(("send.", "recv."))
    } | {"streams.feed", "streams.next", "streams.read"}


def test_the_right_to_break_silence_is_an_operators() -> None:
    assert all(spec.role is Role.OPERATOR for spec in METHODS.values() if spec.breaks_silence)


def test_defaults_are_filled_in() -> None:
    assert check("send.open", destination="dtn://home/inbox") == {
        "destination": "dtn://home/inbox",
        "precedence": "ROUTINE",
        "lifetime_ms": None,
        "size_bytes": None,
        "report": True,
        "endpoint": "inbox",
    }


@pytest.mark.parametrize(
    ("method", "params", "named"),
    [
        ("status", {"verbose": True}, "verbose"),
        ("send.open", {}, "destination"),
        ("send.open", {"destination": None}, "destination"),
        ("send.open", {"destination": b"dtn://home/"}, "destination"),
        ("send.open", {"destination": "x" * 1025}, "destination"),
        ("send.open", {"destination": "d", "precedence": "ASAP"}, "precedence"),
        ("send.open", {"destination": "d", "lifetime_ms": 1.5}, "lifetime_ms"),
        ("send.open", {"destination": "d", "lifetime_ms": -1}, "lifetime_ms"),
        ("send.open", {"destination": "d", "size_bytes": True}, "size_bytes"),
        ("send.open", {"destination": "d", "size_bytes": (1 << 40) + 1}, "size_bytes"),
        ("send.open", {"destination": "d", "report": 1}, "report"),
        ("send.data", {"submission": 1, "data": "text"}, "data"),
        ("send.data", {"submission": 1, "data": bytes((1 << 20) + 1)}, "data"),
        ("recv.read", {"receiver": 1, "message": "m", "offset": 0, "size_bytes": (1 << 20) + 1}, "size_bytes"),
        ("recv.next", {"receiver": 1, "timeout_s": math.nan}, "timeout_s"),
        ("recv.next", {"receiver": 1, "timeout_s": math.inf}, "timeout_s"),
        ("recv.next", {"receiver": 1, "timeout_s": -0.5}, "timeout_s"),
        ("recv.next", {"receiver": 1, "timeout_s": "1"}, "timeout_s"),
        ("events.subscribe", {"kinds": "link"}, "kinds"),
        ("events.subscribe", {"kinds": ["link", 1]}, "kinds"),
        ("events.subscribe", {"kinds": ["link"] * 65}, "kinds"),
        ("events.subscribe", {"kinds": ["x" * 1025]}, "kinds"),
        ("bundles.list", {"limit": 10_001}, "limit"),
    ],
)
def test_a_bad_parameter_is_named(method: str, params: dict[str, Any], named: str) -> None:
    with pytest.raises(ControlError, match=f"'{named}'") as caught:
        check(method, **params)
    assert caught.value.name == "bad_params"
    assert caught.value.data == {"method": method, "param": named}


@pytest.mark.parametrize("timeout_s", [None, 0, 5, 0.5])
def test_seconds_may_be_whole_or_nil(timeout_s: float | None) -> None:
    assert check("recv.next", receiver=1, timeout_s=timeout_s)["timeout_s"] == timeout_s


def test_introspection_shows_every_method_with_its_types() -> None:
    shown = {method["name"]: method for method in introspection()["methods"]}
    assert shown.keys() == METHODS.keys()
    assert shown["send.open"]["params"]["precedence"] == "str=ROUTINE"
    assert shown["send.open"]["params"]["report"] == "bool=true"
    assert shown["emcon.set"]["params"] == {
        "profile": "str",
        "for_s": "float|nil",
        "until_ms": "int|nil",
        "reason": "str|nil",
        "announce": "bool=false",
    }
    assert shown["emcon.set"]["role"] == "operator"


def test_codes_are_unique() -> None:
    assert len({spec.code for spec in ERRORS.values()}) == len(ERRORS)


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("unauthorised", 7),
        ("not_found", 5),
        ("ambiguous", 5),
        ("timeout", 6),
        ("refused_by_emcon", 4),
        ("refused_by_policy", 4),
        ("store_full", 1),
        ("failed", 1),
        ("shutting_down", 3),
        ("invented_later", 1),
    ],
)
def test_exit_codes(name: str, exit_code: int) -> None:
    assert ControlError(name, "m").exit_code == exit_code


def test_an_error_survives_the_wire() -> None:
    error = error_from_wire(ControlError("not_found", "no such bundle", {"bundle": "3f9a"}).to_wire())
    assert (error.name, error.message, error.data) == ("not_found", "no such bundle", {"bundle": "3f9a"})


@pytest.mark.parametrize("wire", [{}, {"name": 1, "message": 2, "data": 3}])
def test_a_crippled_error_is_still_one(wire: dict[str, Any]) -> None:
    error = error_from_wire(wire)
    assert (error.name, error.data) == ("failed", None)
