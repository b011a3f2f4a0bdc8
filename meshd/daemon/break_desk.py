# SPDX-License-Identifier: Apache-2.0
"""`emcon.break` of the control protocol: fills in what was left out, and says why it can't be."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from meshd.bundle.precedence import Precedence
from meshd.control.errors import ControlError
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.emission import OrderRefusedError
from meshd.daemon.silence_breaker import SilenceBreaker
from meshd.emcon.breaking import PRECEDENCE_MIN, QUOTA_MAX_BYTES, WINDOW_MAX_S, BreakOrder
from meshd.node.bundle_table import Entry

WINDOW_S: Final = 2.0
"""Where nobody says for how long, besides what the one bundle takes twice over."""
QUOTA_BYTES: Final = 64 * 1024
"""Where nobody says how much, besides twice the one bundle."""
TURNS: Final = 2
"""So often may the one bundle be sent: repair and headers are in it."""


class BreakDesk:
    """Between the control server and who breaks silence."""

    def __init__(
        self,
        breaker: SilenceBreaker,
        find_bundle: Callable[[str], Awaitable[Entry]],
        who: Callable[[SessionHandle], str],
    ) -> None:
        """`find_bundle` by ID or reference."""
        self._breaker = breaker
        self._find_bundle = find_bundle
        self._who = who

    async def break_silence(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`emcon.break`."""
        names = tuple(params["bearers"])
        entry = None if params["bundle"] is None else await self._find_bundle(params["bundle"])
        if entry is not None and entry.record.precedence < PRECEDENCE_MIN:
            precedence = Precedence(entry.record.precedence).name
            raise ControlError("refused_by_policy", f"silence is not broken for {precedence}: only for FLASH or above")
        size_bytes = 0 if entry is None else entry.record.size_bytes
        window_s, quota_bytes = params["for_s"], params["quota_bytes"]
        if window_s is None:
            rate_bps = min((rate for name, rate in self._breaker.rates_bps.items() if name in names), default=1)
            window_s = min(WINDOW_S + TURNS * size_bytes * 8 / rate_bps, WINDOW_MAX_S)
        if quota_bytes is None:
            quota_bytes = min(QUOTA_BYTES + TURNS * size_bytes, QUOTA_MAX_BYTES)
        order = BreakOrder(names, window_s, quota_bytes, params["reason"], self._who(session))
        try:
            counted = await self._breaker.break_silence(order, None if entry is None else entry.record.id)
        except OrderRefusedError as error:
            raise ControlError("failed", str(error)) from error
        return {"bearers": list(names), "window_s": window_s, "quota_bytes": quota_bytes, **counted}
