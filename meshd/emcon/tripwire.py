# SPDX-License-Identifier: Apache-2.0
"""Watches whether silence is kept: a device that is shut must not count frames as sent.

Needed because AF_XDP and XDP redirect pass by every gate that a host has (DESIGN section 7): it sees
them, it can't stop them. What the gate itself has let out to excepted stations is no leak.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from meshd.emcon.gate import GateCounters


@dataclass(frozen=True, slots=True)
class Leak:
    """Something is wrong with a shut device."""

    device: str
    frames: int
    """Sent since the last look."""
    is_open: bool
    """The kernel says that its gate stands open."""


class Tripwire:
    """Remembers, for each shut device, how many frames it had sent when it was shut that the gate had not let out."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}
        """Frames sent at the last look, and the most that was ever unaccounted for: what the gate lets out may wait in
        a queue before it is sent.
        """

    def check(self, shut: Collection[str], counters: Mapping[str, GateCounters]) -> list[Leak]:
        """Compare; a device that was not shut at the last look only gets its baseline."""
        leaks = []
        for device in sorted(shut):
            now = counters.get(device)
            if now is None:
                self._seen.pop(device, None)  # it does not exist; a new one counts from 0
                continue
            unaccounted = now.tx_frames - now.excepted_frames
            last, most = self._seen.get(device, (now.tx_frames, unaccounted))
            if now.tx_frames < last:
                most = unaccounted  # a device made anew counts from 0 too: fewer frames than before are no leak
            frames = max(0, unaccounted - most)
            self._seen[device] = now.tx_frames, max(unaccounted, most)
            if frames or now.is_open:
                leaks.append(Leak(device, frames, now.is_open))
        for device in self._seen.keys() - set(shut):
            del self._seen[device]
        return leaks
