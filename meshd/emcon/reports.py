# SPDX-License-Identifier: Apache-2.0
"""What emission control tells people: alarms, and which order holds."""

from collections.abc import Mapping

from meshd.emcon.commands import Report
from meshd.emcon.order import Order
from meshd.link.settings import Posture


def alarm(text: str, device: str | None = None) -> Report:
    """A report that should wake somebody up."""
    return Report("emcon.alarm", {"text": text} if device is None else {"text": text, "device": device})


def order_report(kind: str, order: Order, postures: Mapping[str, Posture]) -> Report:
    """An order and what it gives the bearers."""
    return Report(
        kind,
        {
            "profile": order.profile,
            "by": order.by,
            "reason": order.reason,
            "until_ms": order.until_ms,
            "postures": " ".join(f"{name}={posture.value}" for name, posture in sorted(postures.items())),
        },
    )
