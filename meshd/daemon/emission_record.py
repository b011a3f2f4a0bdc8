# SPDX-License-Identifier: Apache-2.0
"""What emission control did, for the record, and whether the counters agree with it (`emcon.verify`).

Every change of emission control goes to the audit log with what gate and device had counted before and after it. A
change towards silence is recorded after the gate has shut, so `before` is what was read last, and says how old it is;
before anything opens, the entry with the counters of then is durable. Deciding and doing are for others.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshd.base.errors import GateError
from meshd.daemon.audit_desk import AuditPort
from meshd.daemon.dtn_clock import monotonic_s
from meshd.emcon.breaking import Breaking
from meshd.emcon.gate import EmissionGate, GateCounters
from meshd.emcon.order import OrderState
from meshd.emcon.profile import device_postures
from meshd.link.link_table import Link
from meshd.link.settings import BearerSettings, Posture

BOOT: Final = "boot"
NOT_RECORDED: Final = frozenset(("emcon.gate",))
"""Reports of emission control that are no change of it."""

Report = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was counted on one device, at one time; None: nobody counts there."""

    at_s: float
    counted: GateCounters | None
    sent_bundles: int
    """By the node's own count, on the bearer."""
    let_out: int = 0
    """Frames that broken silences have let out of the device, ever."""


class EmissionRecord:
    """Stands between emission control and the reports, the gate's counters and the audit log."""

    def __init__(
        self,
        audit: AuditPort,
        gate: EmissionGate,
        bearers: Sequence[BearerSettings],
        report: Report,
        links: Callable[[], Iterable[Link]],
        breaking: Breaking,
        now: Callable[[], float] = monotonic_s,
    ) -> None:
        """`links` of the node, with its own counts; `breaking` knows what left by order in spite of silence."""
        self._breaking = breaking
        self._audit = audit
        self._gate = gate
        self._bearers = tuple(bearers)
        self._report = report
        self._links = links
        self._now = now
        self._last: tuple[float, dict[str, list[int]]] | None = None
        self._postures: dict[str, Posture] = {}
        """By bearer, that of its device."""
        self._since: dict[str, Reading] = {}

    def report(self, kind: str, fields: dict[str, Any]) -> None:
        """For EmissionControl: on to the reports, and to the audit log."""
        self._report(kind, fields)
        if kind in NOT_RECORDED:
            return
        before, last = None, self._last
        if last is not None:
            before = {"age_s": round(self._now() - last[0], 3), "counters": last[1]}
        self._audit.note(kind, {**fields, "before": before, "after": self._read()})

    async def before_opening(self, state: OrderState | None) -> None:
        """For EmissionControl. Errors: AuditError: nothing may be opened."""
        order = None if state is None else state.order
        details = {
            "profile": BOOT if order is None else order.profile,
            "by": None if order is None else order.by,
            "reason": None if order is None else order.reason,
            "until_ms": None if order is None else order.until_ms,
            "before": {"age_s": 0.0, "counters": self._read()},
        }
        await self._audit.append("emcon.opening", details)

    async def before_breaking(self, details: Mapping[str, Any]) -> None:
        """For SilenceBreaker. Errors: AuditError: silence may not be broken."""
        before = {"age_s": 0.0, "counters": self._read()}
        await self._audit.append("emcon.breaking", {**details, "before": before})

    def postures_changed(self, postures: Mapping[str, Posture]) -> None:
        """Whatever is counted on a bearer from now on belongs to its new posture."""
        devices = device_postures(postures, self._bearers)
        changed = [each for each in self._bearers if self._postures.get(each.name) is not devices[each.device]]
        self._postures = {each.name: devices[each.device] for each in self._bearers}
        if changed:
            readings = self._readings()
            self._since |= {bearer.name: readings[bearer.name] for bearer in changed}

    def verify(self) -> dict[str, Any]:
        """`emcon.verify`."""
        readings = self._readings()
        rows = [self._row(bearer, readings[bearer.name]) for bearer in self._bearers if bearer.name in self._since]
        return {"bearers": rows, "good": all(row["good"] for row in rows)}

    def _row(self, bearer: BearerSettings, reading: Reading) -> dict[str, Any]:
        since, posture = self._since[bearer.name], self._postures[bearer.name]
        frames = blocked = None
        if since.counted is not None and reading.counted is not None:
            frames = reading.counted.tx_frames - since.counted.tx_frames
            blocked = reading.counted.blocked_frames - since.counted.blocked_frames
        bundles = max(0, reading.sent_bundles - since.sent_bundles)  # links that are gone took their count along
        is_open = None if reading.counted is None else reading.counted.is_open
        let_out = reading.let_out - since.let_out
        good, verdict = judge(posture, is_open, None if frames is None else frames - let_out, bundles, let_out)
        return {
            "bearer": bearer.name,
            "device": bearer.device,
            "posture": posture.value,
            "for_s": round(reading.at_s - since.at_s, 3),
            "gate_open": is_open,
            "device_frames": frames,
            "let_out_frames": let_out,
            "blocked_frames": blocked,
            "node_bundles": bundles,
            "good": good,
            "verdict": verdict,
        }

    def _readings(self) -> dict[str, Reading]:
        """By bearer."""
        try:
            counters = self._gate.counters()
        except GateError:
            counters = {}
        now, sent = self._now(), Counter[str]()
        for link in self._links():
            sent[link.id.bearer] += link.sent_bundles
        return {
            each.name: Reading(
                now,
                counters.get(each.device),
                sent[each.name],
                self._breaking.frames(each.device, counters.get(each.device)),
            )
            for each in self._bearers
        }

    def _read(self) -> dict[str, list[int]] | None:
        """By device: frames sent, frames blocked, whether the gate is open."""
        try:
            counters = self._gate.counters()
        except GateError:
            return None
        read = {device: [each.tx_frames, each.blocked_frames, int(each.is_open)] for device, each in counters.items()}
        self._last = self._now(), read
        return read


def judge(
    posture: Posture, is_open: bool | None, frames: int | None, bundles: int, let_out: int = 0
) -> tuple[bool, str]:
    """Do gate, device and node agree with the posture? And in words.

    Args: `frames` left the device and `bundles` were sent by the node's own count since the posture was taken; besides,
    `let_out` frames left when silence was broken by order.
    """
    if frames is None or is_open is None:
        return False, "unknown: nobody counts on this device"
    if frames < 0:
        return False, "unknown: the device was made anew, or its counters were set back"
    if not posture.may_send:
        if frames:
            return False, f"LEAK: {frames} frames left the device"
        if is_open:
            return False, "LEAK: the gate is open"
        if let_out:
            return True, f"silent, but for {let_out} frames that were let out by order"
        return True, "silent" if not bundles else f"silent: the gate held back what the node sent ({bundles} bundles)"
    if not is_open:
        return False, "differs: the gate is shut"
    if bundles and not frames:
        return False, f"differs: the node says that it sent {bundles} bundles, and the device sent nothing"
    return True, "agrees"
