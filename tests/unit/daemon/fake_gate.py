# SPDX-License-Identifier: Apache-2.0
"""A gate that remembers what it was told, and refuses on demand."""

from collections.abc import Collection, Mapping, Sequence

from meshd.base.errors import GateError
from meshd.emcon.gate import GateCounters, GateLimits


class FakeGate:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_open: dict[str, bool] = {}
        self.tx_frames: dict[str, int] = {}
        self.marked: dict[str, tuple[int, int]] = {}
        self.lacking: list[str] = []
        self.weak: list[str] = []
        self.fails = False
        self.mended: list[str] = []

    @property
    def ports(self) -> Collection[int]:
        return ()

    def adopt(self, devices: Collection[str]) -> None:
        self.calls.append("adopt " + " ".join(sorted(devices)))
        self.is_open.update(dict.fromkeys(devices, False))

    def close(self, devices: Sequence[str], off: Collection[str] = ()) -> None:
        if self.fails:
            raise GateError("the kernel says no")
        self.calls.append("close " + " ".join(devices) + "".join(f" off {each}" for each in off))
        self.is_open.update(dict.fromkeys(devices, False))

    def restrict(self, device: str, limits: GateLimits, lease_s: float) -> None:
        if self.fails:
            raise GateError("the kernel says no")
        self.calls.append(f"restrict {device} {limits.quota_bytes_per_h} {lease_s}")
        self.is_open[device] = True

    def open(self, device: str, lease_s: float | None) -> None:
        if self.fails:
            raise GateError("the kernel says no")
        self.calls.append(f"open {device} {lease_s}")
        self.is_open[device] = True

    def break_for(self, device: str, mark: int, quota_bytes: int, window_s: float) -> None:
        if self.fails:
            raise GateError("the kernel says no")
        self.calls.append(f"break {device} {mark} {quota_bytes} {window_s}")

    def reapply(self) -> list[str]:
        if self.fails:
            raise GateError("the kernel says no")
        return self.mended

    def counters(self) -> Mapping[str, GateCounters]:
        if self.fails:
            raise GateError("the kernel says no")
        return {
            name: GateCounters(self.tx_frames.get(name, 0), 5, is_open, *self.marked.get(name, (0, 0)))
            for name, is_open in self.is_open.items()
        }

    def let_out(self, device: str, frames: int, size_bytes: int) -> None:
        """Marked frames leave."""
        before_frames, before_bytes = self.marked.get(device, (0, 0))
        self.marked[device] = before_frames + frames, before_bytes + frames * size_bytes
        self.tx_frames[device] = self.tx_frames.get(device, 0) + frames

    def problems(self) -> Mapping[str, str]:
        return {}

    def probe(self) -> list[str]:
        return self.lacking

    def probe_weak(self) -> list[str]:
        return self.weak
