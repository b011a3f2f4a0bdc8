# SPDX-License-Identifier: Apache-2.0
"""The gate's layers below nftables, of one device at a time: clsact program, root qdisc, and the device's own state.

What comes from the kernel as a refusal becomes a problem of the device: nftables holds all the same.
"""

import errno
from functools import partial
from typing import Final

from meshd.linux.bpf_program import drop_but
from meshd.linux.gate_notes import GateNotes, NoteError
from meshd.linux.gated_device import GatedDevice
from meshd.linux.netlink import NetlinkError
from meshd.linux.traffic_control import OUR_ROOT, Device, TrafficControl

MISSING: Final = "the device does not exist: it is gated as soon as it appears"
NO_CLSACT: Final = "what tc redirects passes"


class LowerLayers:
    """Calls that say what they had to do, in words."""

    def __init__(self, tc: TrafficControl, notes: GateNotes) -> None:
        self._tc = tc
        self._notes = notes

    def hold(self, state: GatedDevice, *, purge: bool = False) -> list[str]:
        """Keep a device that is not open as silent as it is to be; `purge`: what waits in its queue is thrown away."""
        state.problems = {}
        done: list[str] = []
        device = self._find(state, "clsact")
        if device is None:
            return done
        calls = (
            ("clsact", self._filter),
            ("qdisc", partial(self._hold_queue, purge=purge)),
            ("down", self._hold_state),
        )
        for layer, call in calls:
            try:
                done += call(device, state)
            except NetlinkError as exc:
                if exc.errno == errno.ENODEV:
                    state.problems["device"] = MISSING
                    return done
                state.problems[layer] = _PROBLEMS[layer].format(exc)
        return done

    def free(self, state: GatedDevice) -> None:
        """Take everything away. Errors: NetlinkError."""
        state.problems = {}
        device = self._tc.device(state.name)
        if device is None:
            state.problems["device"] = MISSING
            return
        try:
            self._set_up(device, state)
            self._restore_queue(device, state)
            self._tc.detach_drop(device.index)
            self._tc.detach_program(device.index)
        except NetlinkError as exc:
            if exc.errno != errno.ENODEV:
                raise
            state.problems["device"] = MISSING
        state.attached = None

    def let_marked(self, state: GatedDevice) -> None:
        """Let the device's marks pass these layers. Errors: NetlinkError, ENODEV where there is no device."""
        device = self._tc.device(state.name)
        if device is None:
            raise NetlinkError(errno.ENODEV, f"letting marked frames out of {state.name}", MISSING)
        self._set_up(device, state)
        self._filter(device, state)
        self._restore_queue(device, state)

    def _find(self, state: GatedDevice, layer: str) -> Device | None:
        try:
            device = self._tc.device(state.name)
        except NetlinkError as exc:
            state.problems[layer] = _PROBLEMS[layer].format(exc)
            return None
        if device is None:
            state.problems["device"] = MISSING
        return device

    def _filter(self, device: Device, state: GatedDevice) -> list[str]:
        if not state.marks and not state.exceptions:
            done = not self._tc.has_drop(device.index)
            if done:
                self._tc.attach_drop(device.index)
            self._tc.detach_program(device.index)
            state.attached = None
        else:
            program = drop_but(state.marks, state.exceptions)
            done = state.attached != program or not self._tc.has_program(device.index)
            if done:
                self._tc.attach_program(device.index, program)
                state.attached = program
            self._tc.detach_drop(device.index)
        return ["the clsact drop was not there"] if done else []

    def _hold_queue(self, device: Device, state: GatedDevice, *, purge: bool) -> list[str]:
        passing = state.marks or state.exceptions
        done = False
        if purge or not passing:
            done = self._silence_queue(device, state)
        if passing:
            self._restore_queue(device, state)
            return []
        return ["the root qdisc was not ours"] if done else []

    def _silence_queue(self, device: Device, state: GatedDevice) -> bool:
        root = self._tc.root(device.index)
        if root is not None and root.handle == OUR_ROOT:
            try:
                state.record = state.record or self._notes.read_shaping(state.name)
            except NoteError as exc:
                state.problems["note"] = str(exc)
            return False
        state.record = self._tc.record(device.index)
        self._note_shaping(state)
        self._tc.blackhole(device.index)
        return True

    def _restore_queue(self, device: Device, state: GatedDevice) -> None:
        if left := self._tc.restore(device.index, state.record):
            state.problems["qdisc"] = "shaping not restored: " + "; ".join(left)
        state.record = ()
        self._note_shaping(state)

    def _note_shaping(self, state: GatedDevice) -> None:
        try:
            self._notes.write_shaping(state.name, state.record)
        except NoteError as exc:
            state.problems["note"] = str(exc)

    def _hold_state(self, device: Device, state: GatedDevice) -> list[str]:
        if not state.is_off:
            self._set_up(device, state)
            return []
        if not device.is_up:
            return []
        try:
            self._notes.write_down(state.name, is_down=True)
        except NoteError as exc:
            state.problems["note"] = str(exc)
        self._tc.set_up(device.index, is_up=False)
        state.is_set_down = True
        return ["it was up"]

    def _set_up(self, device: Device, state: GatedDevice) -> None:
        """Only what the gate has set down: a device may be down for a site's own reasons."""
        if not state.is_set_down:
            return
        self._tc.set_up(device.index, is_up=True)
        state.is_set_down = False
        try:
            self._notes.write_down(state.name, is_down=False)
        except NoteError as exc:
            state.problems["note"] = str(exc)


_PROBLEMS: Final = {
    "clsact": f"no clsact drop, {NO_CLSACT}: {{}}",
    "qdisc": "the queue was not purged: {}",
    "down": "the device's state was not set: {}",
}
