# SPDX-License-Identifier: Apache-2.0
"""What each role includes."""

import pytest

from meshd.control.roles import Rights, Role


@pytest.mark.parametrize(
    ("role", "included"),
    [
        (Role.VIEWER, {Role.VIEWER}),
        (Role.OPERATOR, {Role.VIEWER, Role.OPERATOR}),
        (Role.SECURITY, {Role.VIEWER, Role.SECURITY}),
        (Role.ADMIN, set(Role)),
    ],
)
def test_what_a_role_includes(role: Role, included: set[Role]) -> None:
    assert {each for each in Role if Rights(frozenset((role,))).has(each)} == included


def test_roles_add_up_and_the_strongest_is_shown() -> None:
    both = Rights(frozenset((Role.VIEWER, Role.OPERATOR, Role.SECURITY)))
    assert both.has(Role.OPERATOR)
    assert both.has(Role.SECURITY)
    assert not both.has(Role.ADMIN)
    assert both.name == "security"
    assert Rights(frozenset()).name == "none"
    assert not Rights(frozenset()).has(Role.VIEWER)
