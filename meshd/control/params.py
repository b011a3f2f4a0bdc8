# SPDX-License-Identifier: Apache-2.0
"""What a parameter of a control method may be, and the check of what a client really sent.

One description serves three ends: the check here, `introspect`, and the reference in the manual.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from meshd.control.errors import ControlError
from meshd.control.words import DATA_SIZE_MAX_BYTES

TEXT_CHARACTERS_MAX: Final = 1024
LIST_ITEMS_MAX: Final = 64
INTEGER_MAX: Final = (1 << 63) - 1
SECONDS_MAX: Final = 366 * 24 * 3600.0


class ParamKind(Enum):
    """The types that parameters have; the value is the name that `introspect` shows."""

    TEXT = "str"
    INTEGER = "int"
    SECONDS = "float"
    SWITCH = "bool"
    BYTES = "bin"
    TEXTS = "[str]"


class Required(Enum):
    """The default of a parameter that has none."""

    REQUIRED = "required"


REQUIRED: Final = Required.REQUIRED


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """One parameter: its type, what stands for it when it is left out, whether nil may be sent, and its bounds."""

    kind: ParamKind
    default: Any = REQUIRED
    nullable: bool = False
    maximum: int = INTEGER_MAX
    choices: tuple[str, ...] = ()

    def describe(self) -> str:
        """The type in words of the protocol: `int`, `int|nil`, `str=ROUTINE`."""
        text = self.kind.value + ("|nil" if self.nullable else "")
        if self.default is REQUIRED or self.default is None:
            return text
        default = str(self.default).lower() if isinstance(self.default, bool) else self.default
        return f"{text}={default}"


def check_params(method: str, specs: dict[str, ParamSpec], params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with defaults filled in. Raises ControlError `bad_params` naming the parameter."""
    for name in params:
        if name not in specs:
            known = ", ".join(specs) or "none"
            raise _bad(method, name, f"is unknown; {method} takes: {known}")
    checked: dict[str, Any] = {}
    for name, spec in specs.items():
        if name not in params:
            if spec.default is REQUIRED:
                raise _bad(method, name, f"is missing; it is of type {spec.kind.value}")
            checked[name] = spec.default
            continue
        problem = _problem(spec, params[name])
        if problem:
            raise _bad(method, name, problem)
        checked[name] = params[name]
    return checked


def _bad(method: str, name: str, problem: str) -> ControlError:
    return ControlError("bad_params", f"{method}: parameter {name!r} {problem}", {"method": method, "param": name})


def _problem(spec: ParamSpec, value: Any) -> str | None:
    """Say what is wrong with the value, None when nothing is."""
    if value is None:
        return None if spec.nullable else f"may not be nil; it is of type {spec.kind.value}"
    match spec.kind:
        case ParamKind.TEXT:
            return _text_problem(spec, value)
        case ParamKind.INTEGER:
            return _integer_problem(spec, value)
        case ParamKind.SECONDS:
            return _seconds_problem(value)
        case ParamKind.SWITCH:
            return None if isinstance(value, bool) else _wrong_type(spec, value)
        case ParamKind.BYTES:
            return _bytes_problem(spec, value)
        case ParamKind.TEXTS:
            return _texts_problem(spec, value)


def _wrong_type(spec: ParamSpec, value: Any) -> str:
    return f"has to be of type {spec.kind.value}, not {type(value).__name__}"


def _text_problem(spec: ParamSpec, value: Any) -> str | None:
    if not isinstance(value, str):
        return _wrong_type(spec, value)
    if len(value) > TEXT_CHARACTERS_MAX:
        return f"is longer than {TEXT_CHARACTERS_MAX} characters"
    if spec.choices and value not in spec.choices:
        return f"has to be one of {', '.join(spec.choices)}, not {value[:40]!r}"
    return None


def _integer_problem(spec: ParamSpec, value: Any) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return _wrong_type(spec, value)
    return None if 0 <= value <= spec.maximum else f"has to be from 0 to {spec.maximum}, not {value}"


def _seconds_problem(value: Any) -> str | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"has to be a number of seconds, not {type(value).__name__}"
    fits = math.isfinite(value) and 0 <= value <= SECONDS_MAX
    return None if fits else f"has to be from 0 to {SECONDS_MAX:.0f} seconds, not {value}"


def _bytes_problem(spec: ParamSpec, value: Any) -> str | None:
    if not isinstance(value, bytes):
        return _wrong_type(spec, value)
    return f"is above {DATA_SIZE_MAX_BYTES} bytes" if len(value) > DATA_SIZE_MAX_BYTES else None


def _texts_problem(spec: ParamSpec, value: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return "has to be a list of str"
    if len(value) > LIST_ITEMS_MAX:
        return f"has more than {LIST_ITEMS_MAX} items"
    return next(filter(None, (_text_problem(spec, item) for item in value)), None)
