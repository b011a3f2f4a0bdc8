# SPDX-License-Identifier: Apache-2.0
"""One row of the table of control methods, and short forms for its parameters."""

from dataclasses import dataclass
from typing import Any, Final

from meshd.control.params import REQUIRED, ParamKind, ParamSpec
from meshd.control.roles import Role


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """One method. `ordered_by` names the parameter whose equal values are served one after the other, in order.

    `audited`: each call goes to the audit log, also a good one. Those are the operators' actions on the node; messages
    are not among them: they have a history of their own, and an entry for each would cost a write to the disk.
    """

    name: str
    params: dict[str, ParamSpec]
    doc: str
    role: Role = Role.VIEWER
    ordered_by: str | None = None
    audited: bool = False
    breaks_silence: bool = False
    """Needs the right to break silence, beside the role."""


def text(default: Any = REQUIRED, *, nullable: bool = False, choices: tuple[str, ...] = ()) -> ParamSpec:
    return ParamSpec(ParamKind.TEXT, None if nullable else default, nullable, choices=choices)


def integer(default: Any = REQUIRED, *, nullable: bool = False, maximum: int = (1 << 63) - 1) -> ParamSpec:
    return ParamSpec(ParamKind.INTEGER, None if nullable else default, nullable, maximum)


SECONDS: Final = ParamSpec(ParamKind.SECONDS, None, nullable=True)
