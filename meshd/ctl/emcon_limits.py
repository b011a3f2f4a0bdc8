# SPDX-License-Identifier: Apache-2.0
"""How `meshctl emcon` shows a posture and, where it restricts, what may leave."""

from typing import Any

from meshd.ctl.output import size


def posture_words(posture: str, restriction: dict[str, Any] | None) -> str:
    """Such as `RESTRICTED 1 MiB/h 10 % IMMEDIATE`; with what is used of the quota, where that is known."""
    if restriction is None:
        return posture
    words = [posture]
    quota_bytes, used_bytes = restriction["quota_bytes_per_h"], restriction.get("used_bytes")
    if quota_bytes is not None:
        used = "" if used_bytes is None else f"{size(used_bytes)} of "
        words.append(f"{used}{size(quota_bytes)}/h")
    if restriction["duty_pct"] is not None:
        words.append(f"{restriction['duty_pct']} %")
    return " ".join([*words, restriction["precedence_min"]])
