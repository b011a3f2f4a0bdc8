# SPDX-License-Identifier: Apache-2.0
"""`emcon.break`: what is filled in, and what is refused before anything is tried."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from meshd.control.errors import ControlError
from meshd.daemon.break_desk import QUOTA_BYTES, WINDOW_S, BreakDesk
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.emission import OrderRefusedError
from meshd.daemon.silence_breaker import SilenceBreaker
from meshd.emcon.breaking import QUOTA_MAX_BYTES, WINDOW_MAX_S, BreakOrder
from meshd.node.bundle_table import Entry

RATES = {"sat0": 1_000_000, "los0": 8000}
PARAMS: dict[str, Any] = {
    "bearers": ["sat0"],
    "bundle": None,
    "for_s": None,
    "quota_bytes": None,
    "reason": "now",
}


class Scene:
    def __init__(self) -> None:
        self.orders: list[tuple[BreakOrder, object]] = []
        self.refusal = ""
        self.entry = SimpleNamespace(record=SimpleNamespace(id="the bundle", precedence=4, size_bytes=100_000))
        self.rates_bps = RATES
        self.desk = BreakDesk(cast("SilenceBreaker", self), self.find, lambda _: "uid 7")

    async def find(self, text: str) -> Entry:
        return cast("Entry", self.entry)

    async def break_silence(self, order: BreakOrder, bundle: object) -> dict[str, Any]:
        if self.refusal:
            raise OrderRefusedError(self.refusal)
        self.orders.append((order, bundle))
        return {"frames": 1}

    async def call(self, **params: Any) -> dict[str, Any]:
        return await self.desk.break_silence(cast("SessionHandle", None), PARAMS | params)


async def test_a_window_of_moderate_size_by_default() -> None:
    scene = Scene()
    reply = await scene.call()
    assert scene.orders == [(BreakOrder(("sat0",), WINDOW_S, QUOTA_BYTES, "now", "uid 7"), None)]
    assert reply == {"bearers": ["sat0"], "window_s": WINDOW_S, "quota_bytes": QUOTA_BYTES, "frames": 1}


async def test_what_is_said_holds() -> None:
    scene = Scene()
    await scene.call(for_s=5.0, quota_bytes=9999)
    assert scene.orders == [(BreakOrder(("sat0",), 5.0, 9999, "now", "uid 7"), None)]


async def test_one_bundle_gets_what_it_takes_twice_on_the_slowest_bearer() -> None:
    scene = Scene()
    await scene.call(bundle="3f9a")
    (order, bundle) = scene.orders[0]
    assert bundle == "the bundle"
    assert order.window_s == pytest.approx(WINDOW_S + 1.6)
    assert order.quota_bytes == QUOTA_BYTES + 200_000
    scene.entry.record.size_bytes = 1 << 40
    await scene.call(bundle="3f9a", bearers=["sat0", "los0"])
    assert (scene.orders[1][0].window_s, scene.orders[1][0].quota_bytes) == (WINDOW_MAX_S, QUOTA_MAX_BYTES)


async def test_nothing_below_flash() -> None:
    scene = Scene()
    scene.entry.record.precedence = 3
    with pytest.raises(ControlError, match="IMMEDIATE") as caught:
        await scene.call(bundle="3f9a")
    assert caught.value.name == "refused_by_policy"
    assert scene.orders == []


async def test_a_refusal_is_passed_on() -> None:
    scene = Scene()
    scene.refusal = "sat0 is not silent"
    with pytest.raises(ControlError, match="not silent"):
        await scene.call()
