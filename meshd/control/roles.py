# SPDX-License-Identifier: Apache-2.0
"""Roles on the control socket: what each includes, and what a session may call.

A user can have several. Who has which is found by the daemon from Unix groups; what a method needs stands in the table
of methods. Breaking silence needs a right of its own beside the role: an operator has it only by being named.
"""

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final


class Role(Enum):
    """In the order in which the strongest one of a user is shown."""

    ADMIN = "admin"
    SECURITY = "security"
    OPERATOR = "operator"
    VIEWER = "viewer"


INCLUDED: Final = MappingProxyType(
    {
        Role.ADMIN: frozenset(Role),
        Role.SECURITY: frozenset((Role.SECURITY, Role.VIEWER)),
        Role.OPERATOR: frozenset((Role.OPERATOR, Role.VIEWER)),
        Role.VIEWER: frozenset((Role.VIEWER,)),
    }
)
"""A security officer gives no orders, and an operator does not read who gave which."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What one session may do."""

    roles: frozenset[Role]
    """Those that were given, without what they include."""
    may_break: bool = False
    """Break an ordered silence."""

    def has(self, role: Role) -> bool:
        """Whether one of the roles is this one or includes it."""
        return any(role in INCLUDED[each] for each in self.roles)

    @property
    def name(self) -> str:
        """The strongest role, for people and for the record; `none` without any."""
        return next((role.value for role in Role if role in self.roles), "none")
