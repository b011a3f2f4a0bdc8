# SPDX-License-Identifier: Apache-2.0
"""What a profile says of a bearer: a posture, and for RESTRICTED what may leave."""

from typing import Any, Final, NamedTuple

from meshd.bundle.precedence import Precedence
from meshd.emcon.settings import Restriction
from meshd.link.settings import Posture
from meshd.settings import value
from meshd.settings.value import ValueProblem, shown

QUOTA_MAX_BYTES: Final = 1 << 50
_POSTURES: Final = {posture.value: posture for posture in Posture}
_EXAMPLE: Final = '{ posture = "RESTRICTED", quota = "1 MiB", duty = "10 %", precedence_min = "IMMEDIATE" }'
_READERS: Final = {
    "posture": value.choice(_POSTURES),
    "quota": value.size_bytes(1, QUOTA_MAX_BYTES),
    "duty": value.percentage(1, 100),
    "precedence_min": value.choice({each.name: each for each in Precedence}),
}


class Regime(NamedTuple):
    """What holds for one bearer."""

    posture: Posture
    restriction: Restriction | None = None
    """Of RESTRICTED, and of nothing else."""


def regime(element: Any) -> Regime:
    """A posture's name; or a table, which RESTRICTED needs."""
    said = _read_table(element) if isinstance(element, dict) else {"posture": _READERS["posture"](element)}
    if "posture" not in said:
        raise ValueProblem("there is no posture in it", f"write it such as {_EXAMPLE}")
    posture = said.pop("posture")
    if posture is not Posture.RESTRICTED:
        if said:
            raise ValueProblem(f"{posture.value} has no {', '.join(said)}", "remove it, or write RESTRICTED")
        return Regime(posture)
    if "quota" not in said and "duty" not in said:
        raise ValueProblem("RESTRICTED needs a quota or a duty", f"write it such as {_EXAMPLE}")
    return Regime(posture, Restriction(said.get("quota"), said.get("duty"), said.get("precedence_min", 0)))


def _read_table(element: dict[str, Any]) -> dict[str, Any]:
    unknown = [name for name in element if name not in _READERS]
    if unknown:
        raise ValueProblem(f"{shown(unknown[0])} is not known here", f"known are {', '.join(_READERS)}")
    return {name: _READERS[name](each) for name, each in element.items()}
