# SPDX-License-Identifier: Apache-2.0
"""Breaks an ordered silence for a moment: the record first, then the gate, then the bearers; and silent again.

The window lasts as long as the call that asked for it: whoever goes away ends it. The kernel ends it by itself when its
time or quota is over, also without this daemon. A change of postures, by whatever order, ends it, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio

from meshd.base.errors import AuditError, GateError
from meshd.bearer.sockets import BearerError
from meshd.bundle.record import BundleId, bundle_id_text
from meshd.daemon.emission import EmissionControl, OrderRefusedError
from meshd.daemon.emission_record import EmissionRecord
from meshd.emcon.breaking import PRECEDENCE_MIN, Breaking, BreakOrder, breaking_mark, wrong_with_breaking
from meshd.emcon.gate import EmissionGate, GateCounters
from meshd.link.settings import BearerSettings, Posture
from meshd.node.events import PosturesChanged

LOOK_S: Final = 0.05
"""How often it is looked whether the one bundle is still here."""
ABOVE_ALL: Final = PRECEDENCE_MIN + 2
"""Where one bundle is let through, no other is urgent enough."""


class Breakable(Protocol):
    """A bearer, as `bearer.Bearer` is."""

    def break_silence(self, precedence_min: int, bundle: BundleId | None, mark: int) -> None:
        """Errors: BearerError: it can't keep to that."""

    def freeze(self) -> None:
        """Silence."""


@dataclass(frozen=True, slots=True)
class _Window:
    """The one under way."""

    order: BreakOrder
    bundle: BundleId | None
    bearers: Sequence[BearerSettings]
    before: Mapping[str, GateCounters]
    over: trio.Event


class SilenceBreaker:
    """Of one daemon; one window at a time."""

    def __init__(
        self,
        emission: EmissionControl,
        gate: EmissionGate,
        record: EmissionRecord,
        breaking: Breaking,
        bearers: Mapping[str, Breakable],
        settings: Sequence[BearerSettings],
        tell: Callable[[], None],
        is_here: Callable[[BundleId], bool],
    ) -> None:
        """`tell` gives the node what `event` says; `is_here` tells whether it holds a bundle."""
        self._emission = emission
        self._gate = gate
        self._record = record
        self._breaking = breaking
        self._bearers = bearers
        self._settings = tuple(settings)
        self._tell = tell
        self._is_here = is_here
        self._window: _Window | None = None
        self._lock = trio.Lock()

    @property
    def rates_bps(self) -> dict[str, int]:
        """By bearer."""
        return {each.name: each.rate_bps for each in self._settings}

    def event(self, postures: Mapping[str, Posture]) -> PosturesChanged:
        """For the node: the postures in force, and what is let out beside them."""
        emission, window = self._emission, self._window
        named = () if window is None else window.order.bearers
        bundle = None if window is None else window.bundle
        floor = PRECEDENCE_MIN if bundle is None else ABOVE_ALL
        return PosturesChanged(
            {**postures, **dict.fromkeys(named, Posture.RESTRICTED)},
            emission.order_until_ms,
            {**emission.precedence_floors, **dict.fromkeys(named, floor)},
            let_through=bundle,
            plan=emission.plan,
        )

    def postures_changed(self) -> None:
        """Emission control has shut or opened something, and told the bearers: the window is over."""
        if self._window is not None:
            self._window.over.set()
            self._window = None

    async def break_silence(self, order: BreakOrder, bundle: BundleId | None) -> dict[str, Any]:
        """Let it out; returns when that is over, with what the kernel has counted.

        Errors: OrderRefusedError.
        """
        if self._lock.locked():
            raise OrderRefusedError("silence is being broken already: wait until that is over")
        async with self._lock:
            self._check(order)
            details = _details(order, bundle)
            try:
                await self._record.before_breaking(details)
            except AuditError as error:
                raise OrderRefusedError(f"silence is not broken without a record: {error}") from error
            self._check(order)  # an order may have come meanwhile
            window = self._begin(order, bundle)
            try:
                with trio.move_on_after(order.window_s):
                    await self._wait(window)
            finally:
                counted = self._end(window)
                self._record.report("emcon.broken", {**details, **counted})
        return counted

    def _check(self, order: BreakOrder) -> None:
        refusal = wrong_with_breaking(order, self._emission.postures, self._settings)
        if refusal is not None:
            raise OrderRefusedError(refusal)

    def _begin(self, order: BreakOrder, bundle: BundleId | None) -> _Window:
        """Nothing leaves before this has returned. Errors: OrderRefusedError; then all is as before."""
        named = [each for each in self._settings if each.name in order.bearers]
        try:
            for each in named:
                self._bearers[each.name].break_silence(PRECEDENCE_MIN, bundle, breaking_mark(each))
            for each in named:
                self._gate.break_for(each.device, breaking_mark(each), order.quota_bytes, order.window_s)
        except (BearerError, GateError) as error:
            self._shut(named)
            raise OrderRefusedError(f"silence is not broken: {error}") from error
        before = self._counters()
        self._breaking.begin([each.device for each in named], before)
        self._emission.note_broken(self._breaking.devices)
        self._window = window = _Window(order, bundle, named, before, trio.Event())
        self._tell()
        return window

    async def _wait(self, window: _Window) -> None:
        while window.bundle is None or self._is_here(window.bundle):
            with trio.move_on_after(LOOK_S):
                await window.over.wait()
                return

    def _end(self, window: _Window) -> dict[str, Any]:
        was_changed = window.over.is_set()
        self._window = None
        self._shut(window.bearers)
        after = self._counters()
        frames = {each.device: -self._breaking.frames(each.device, None) for each in window.bearers}
        self._breaking.end(frames, after)
        frames = {device: count + self._breaking.frames(device, None) for device, count in frames.items()}
        self._emission.note_broken(self._breaking.devices)
        if not was_changed:
            self._tell()
        self._look_for_leaks(window, after, frames)
        return {
            "frames": sum(frames.values()),
            "bytes": sum(_marked_bytes(window.before, after, device) for device in frames),
            "ended_by_order": was_changed,
        }

    def _shut(self, named: Sequence[BearerSettings]) -> None:
        """Those that are still to be silent; with what was ordered otherwise meanwhile, emission control has dealt."""
        silent = [each for each in named if self._emission.postures[each.name] is Posture.RX_ONLY]
        for each in silent:
            self._bearers[each.name].freeze()
        try:
            self._gate.close([each.device for each in silent])
        except GateError as error:
            text = f"the window of a broken silence ends by the kernel's clock alone: {error}"
            self._record.report("emcon.alarm", {"text": text})

    def _look_for_leaks(self, window: _Window, after: Mapping[str, GateCounters], frames: Mapping[str, int]) -> None:
        """What left the devices meanwhile has to be what was let out."""
        for each in window.bearers:
            before, now = window.before.get(each.device), after.get(each.device)
            is_silent = self._emission.postures[each.name] is Posture.RX_ONLY
            if before is None or now is None or not is_silent:
                continue
            unaccounted = now.tx_frames - before.tx_frames - frames[each.device]
            unaccounted -= now.excepted_frames - before.excepted_frames
            if unaccounted > 0:
                text = f"{unaccounted} frames more than were let out left a device that is ordered silent"
                self._record.report("emcon.alarm", {"text": text, "device": each.device})

    def _counters(self) -> Mapping[str, GateCounters]:
        try:
            return self._gate.counters()
        except GateError:
            return {}


def _marked_bytes(before: Mapping[str, GateCounters], after: Mapping[str, GateCounters], device: str) -> int:
    if device not in before or device not in after:
        return 0
    return max(0, after[device].marked_bytes - before[device].marked_bytes)


def _details(order: BreakOrder, bundle: BundleId | None) -> dict[str, Any]:
    return {
        "bearers": ", ".join(order.bearers),
        "window_s": order.window_s,
        "quota_bytes": order.quota_bytes,
        "bundle": None if bundle is None else bundle_id_text(bundle),
        "reason": order.reason,
        "by": order.by,
    }
