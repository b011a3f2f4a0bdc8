# SPDX-License-Identifier: Apache-2.0
"""An order on its way to the disk, part of `policy`."""

from dataclasses import dataclass

from meshd.emcon.order import OrderState


@dataclass(frozen=True, slots=True)
class Pending:
    """What holds, or what comes when it is durable."""

    write: int
    state: OrderState | None
    deadline: float | None
    number: int | None
    """Of the order that waits for an answer."""
    opens: bool
    """It does so only when it is durable."""
