# SPDX-License-Identifier: Apache-2.0
"""A gate that remembers what it was told, and refuses on demand."""

from collections.abc import Collection, Mapping, Sequence

from meshd.base.errors import GateError
from meshd.emcon.gate import GateCounters


class FakeGate:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_open: dict[str, bool] = {}
        self.tx_frames: dict[str, int] = {}
        self.lacking: list[str] = []
        self.fails = False
        self.mended: list[str] = []

    @property
    def ports(self) -> Collection[int]:
        return ()

    def adopt(self, devices: Collection[str]) -> None:
        self.calls.append("adopt " + " ".join(sorted(devices)))
        self.is_open.update(dict.fromkeys(devices, False))

    def close(self, devices: Sequence[str]) -> None:
        if self.fails:
            raise GateError("the kernel says no")
        self.calls.append("close " + " ".join(devices))
        self.is_open.update(dict.fromkeys(devices, False))

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
        return {name: GateCounters(self.tx_frames.get(name, 0), 5, is_open) for name, is_open in self.is_open.items()}

    def problems(self) -> Mapping[str, str]:
        return {}

    def probe(self) -> list[str]:
        return self.lacking
