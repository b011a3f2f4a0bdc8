# SPDX-License-Identifier: Apache-2.0
"""Silence broken for a moment, by order: who may ask for what, what is under way, and what it has let out.

For bundles of FLASH or above on bearers that are RX_ONLY, within a window and a number of bytes that the kernel keeps.
It ends by itself, and at once when the postures change. Marks, sockets and the record are for the shell.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshd.bundle.precedence import Precedence
from meshd.emcon.gate import GateCounters
from meshd.emcon.order import wrong_with_order
from meshd.link.settings import BearerSettings, Posture

WINDOW_MAX_S: Final = 60.0
QUOTA_MIN_BYTES: Final = 1500
QUOTA_MAX_BYTES: Final = 64 * 1024 * 1024
PRECEDENCE_MIN: Final = int(Precedence.FLASH)
_MARK_BIT: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class BreakOrder:
    """What somebody asks for."""

    bearers: tuple[str, ...]
    window_s: float
    quota_bytes: int
    """Of frames, on each device."""
    reason: str
    by: str


def breaking_mark(bearer: BearerSettings) -> int:
    """SO_MARK of what may leave: never the bearer's own, which all of its sockets carry."""
    return bearer.mark ^ _MARK_BIT


def wrong_with_breaking(
    order: BreakOrder, postures: Mapping[str, Posture], bearers: Sequence[BearerSettings]
) -> str | None:
    """Why it can't be; None: it can."""
    known = {bearer.name: bearer for bearer in bearers}
    if not order.bearers or len(set(order.bearers)) != len(order.bearers):
        return "name at least one bearer, and each of them once"
    if not 0 < order.window_s <= WINDOW_MAX_S:
        return f"a window is longer than 0 and at most {WINDOW_MAX_S:.0f} s"
    if not QUOTA_MIN_BYTES <= order.quota_bytes <= QUOTA_MAX_BYTES:
        return f"a quota is from {QUOTA_MIN_BYTES} to {QUOTA_MAX_BYTES} bytes"
    if not order.reason.strip():
        return "silence is broken only with a reason: say why"
    for name in order.bearers:
        if name not in known:
            return f"there is no bearer {name!r}: there are {', '.join(sorted(known))}"
        if postures[name] is Posture.OFF:
            return f"the device of {name} is down: order a profile in which it is not OFF"
        if postures[name].may_send:
            return f"{name} is not silent: what is urgent leaves without that"
    devices = [known[name].device for name in order.bearers]
    if len(set(devices)) != len(devices):
        return "two of the bearers share a device: name one of them"
    return wrong_with_order(order.window_s, order.by, order.reason)


class Breaking:
    """Owns the windows under way, by device, and the counts of what broken silences have let out."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}
        self._let_out: dict[str, int] = {}

    @property
    def devices(self) -> frozenset[str]:
        """On which silence is broken now."""
        return frozenset(self._begun)

    def begin(self, devices: Iterable[str], counters: Mapping[str, GateCounters]) -> None:
        """The kernel lets marked frames out of these, and nothing has left yet."""
        for device in devices:
            counted = counters.get(device)
            self._begun[device] = 0 if counted is None else counted.marked_frames

    def end(self, devices: Collection[str], counters: Mapping[str, GateCounters]) -> None:
        """The kernel lets nothing out any more; those without a window are passed over."""
        for device in [each for each in devices if each in self._begun]:
            self._let_out[device] = self.frames(device, counters.get(device))
            del self._begun[device]

    def frames(self, device: str, counted: GateCounters | None) -> int:
        """All that broken silences have ever let out of a device, the window under way included."""
        frames = self._let_out.get(device, 0)
        if device in self._begun and counted is not None:
            frames += max(0, counted.marked_frames - self._begun[device])
        return frames
