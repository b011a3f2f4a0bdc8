# SPDX-License-Identifier: Apache-2.0
"""How restrictions are shown."""

import pytest

from meshd.ctl.commands.emcon import _rows
from meshd.ctl.emcon_limits import posture_words

REDUCED = {"quota_bytes_per_h": 1 << 20, "duty_pct": 10, "precedence_min": "IMMEDIATE"}


@pytest.mark.parametrize(
    ("restriction", "expected"),
    [
        (None, "RESTRICTED"),
        (REDUCED, "RESTRICTED 1 MiB/h 10 % IMMEDIATE"),
        ({**REDUCED, "used_bytes": 2048, "duty_pct": None}, "RESTRICTED 2 KiB of 1 MiB/h IMMEDIATE"),
        ({**REDUCED, "quota_bytes_per_h": None, "used_bytes": 0}, "RESTRICTED 10 % IMMEDIATE"),
    ],
)
def test_words(restriction: dict[str, object] | None, expected: str) -> None:
    assert posture_words("RESTRICTED", restriction) == expected


def test_the_gate_of_a_restricted_bearer_is_limited() -> None:
    gate = {"open": True, "tx_frames": 1, "blocked_frames": 2}
    bearer = {"bearer": "sat", "device": "sat0", "radiating": True, "posture": "RESTRICTED", "gate": gate}
    (row,) = _rows({"bearers": [{**bearer, "restriction": REDUCED, "problem": None}]})
    assert row[4:] == ("limited", 1, 2, None)
