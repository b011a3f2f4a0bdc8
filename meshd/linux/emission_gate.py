# SPDX-License-Identifier: Apache-2.0
"""The emission gate for real: layers of the kernel below every socket of this host (DESIGN section 7).

1. `nfnetlink`: an nftables egress chain with policy drop, and a set of devices that may send, whose elements run out by
   themselves (the dead-man's lease). It also stops what bypasses the qdisc (PACKET_QDISC_BYPASS), and counts what a
   restricted device may send.
2. `traffic_control`: a classic BPF drop at the clsact egress while closed. It holds when somebody flushes the ruleset,
   and stops what netfilter egress skips by design (tc redirect).
3. A blackhole as root qdisc while closed: what waits behind both hooks is purged; `shaping` keeps what stood there.
4. The device itself, set down where that is ordered.

AF_XDP and XDP redirect pass the first three: only the fourth or the radio's transmit inhibit stops them. A device with
a lease is always in the table; one without (not radiating) only while it is closed by order, so that neither a stalled
daemon nor an expired lease cuts an operator off. `lower_layers` has layers 2 to 4. What to close and when is
`meshd.emcon.policy`.
"""

import errno
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from meshd.base.errors import GateError
from meshd.emcon.gate import GateCounters, GateLimits
from meshd.link.settings import Station
from meshd.linux.gate_notes import GateNotes
from meshd.linux.gated_device import GatedDevice, Regime
from meshd.linux.lower_layers import MISSING, NO_CLSACT, LowerLayers
from meshd.linux.netlink import NetlinkError
from meshd.linux.nfnetlink import GateTable, TableState
from meshd.linux.traffic_control import TrafficControl

REBUILD_ATTEMPTS_MAX: Final = 3
"""Devices may come and go between looking and laying."""
QUOTA_S: Final = 3600.0
"""After so long a restricted device has its quota anew."""
_REMEDY: Final = {
    errno.EPERM: "run meshd with CAP_NET_ADMIN (its systemd unit grants it), or in a lab set `gate = false` in [emcon]",
    errno.EOPNOTSUPP: "the kernel needs nftables with the netdev egress hook (Linux 5.16, CONFIG_NETFILTER_EGRESS)",
    errno.EPROTONOSUPPORT: "the kernel needs nftables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_NETDEV)",
}


def _no_exceptions(_: str) -> None:
    """Nobody."""


class KernelGate:
    """`meshd.emcon.gate.EmissionGate` on the running kernel, in the network namespace where it is made.

    Resource handling: two netlink sockets until `disconnect` or `release`; what it laid stays when the process ends.
    Errors: GateError everywhere, naming the remedy.
    """

    def __init__(
        self,
        notes_dir: Path | None = None,
        exceptions: Callable[[str], Sequence[Station] | None] = _no_exceptions,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`notes_dir`: where to note what a later start has to know (below /run); `exceptions` says, by device, whom
        frames may go to in any case.
        """
        try:
            self._table = GateTable()
            self._tc = TrafficControl()
        except OSError as exc:
            raise GateError(f"no netlink socket for the emission gate: {exc}{_remedy(exc.errno)}") from exc
        self._notes = GateNotes(notes_dir)
        self._below = LowerLayers(self._tc, self._notes)
        self._exceptions = exceptions
        self._now = now
        self._devices: dict[str, GatedDevice] = {}
        self._chained: set[str] = set()

    @property
    def ports(self) -> Collection[int]:
        """Netlink port numbers that notifications about our own changes carry."""
        return (self._table.port, self._tc.port)

    def probe(self) -> list[str]:
        """Pieces without which there is no gate, in words; empty: all is there. Nothing is changed."""
        return self._lacks("nftables egress", self._table.probe)

    def probe_weak(self) -> list[str]:
        """Pieces without which there is a gate, but one that lets something pass; which, in words."""
        return [f"{each}; {NO_CLSACT}" for each in self._lacks("clsact with classic BPF", self._tc.probe)]

    def _lacks(self, name: str, call: Callable[[], None]) -> list[str]:
        try:
            call()
        except NetlinkError as exc:
            return [f"{name}: {exc}{_remedy(exc.errno)}"]
        return []

    def adopt(self, devices: Collection[str]) -> None:
        """Take over the table that the boot unit or an earlier daemon laid, all of its devices and these closed."""
        try:
            for name in sorted({*devices, *self._table.state().chains}):
                state = self._device(name)
                state.regime = Regime.CLOSED
                state.is_off = state.is_set_down = self._notes.read_down(name)
            self._rebuild()
        except NetlinkError as exc:
            raise _gate_error(exc) from exc
        for state in self._devices.values():
            self._below.hold(state, purge=True)

    def close(self, devices: Sequence[str], off: Collection[str] = ()) -> None:
        """Shut all of these in one transaction, then the layers below, then look whether it is so."""
        failure: NetlinkError | None = None
        try:
            self._shut(devices)
        except NetlinkError as exc:
            failure = exc
        for name in devices:
            self._devices[name].is_off = name in off
            self._below.hold(self._devices[name], purge=True)
        if failure is None:
            try:
                self._mend_table()
            except NetlinkError as exc:
                failure = exc
        if failure is not None:
            raise _gate_error(failure)
        self._check_down(off)

    def _check_down(self, off: Collection[str]) -> None:
        failed = [f"{name}: {problem}" for name in off if (problem := self._devices[name].problems.get("down"))]
        if failed:
            raise GateError("emission gate: " + "; ".join(failed))

    def break_for(self, device: str, mark: int, quota_bytes: int, window_s: float) -> None:
        """Let one flow out of a closed device; nftables, which ends it by itself, comes last.

        The other layers stay open for that flow until `close`, but nothing passes nftables when the window is over.
        """
        self.close([device])
        state = self._devices[device]
        state.mark = mark
        try:
            self._below.let_marked(state)
            self._table.let_marked(device, mark, quota_bytes, window_s)
        except NetlinkError as exc:
            self.close([device])
            if exc.errno == errno.ENODEV:
                raise GateError(f"emission gate: silence is not broken on {device}: {MISSING}") from exc
            raise _gate_error(exc) from exc

    def restrict(self, device: str, limits: GateLimits, lease_s: float) -> None:
        """Let marked flows out of a closed device; nftables, which counts them, comes last."""
        state = self._device(device)
        is_renewal = state.regime is Regime.LIMITED and state.limits == limits
        if not is_renewal:
            self.close([device])
        state.limits, state.regime, state.lease_s = limits, Regime.LIMITED, lease_s
        try:
            is_new_hour = self._begin_hour(state)
            if not is_renewal:
                self._below.let_marked(state)
            if not is_renewal or is_new_hour:
                self._count_before(self._table.state())
                if is_new_hour:
                    state.used_bytes = 0
                self._table.lay_rules(state.rules)
            self._table.let_limited(device, limits.marks, lease_s)
        except NetlinkError as exc:
            if exc.errno == errno.ENODEV or self._tc.device(device) is None:
                state.problems["device"] = MISSING
                return
            if not is_renewal:
                self.close([device])
                raise _gate_error(exc) from exc
            self._restrict_anew(state)

    def _begin_hour(self, state: GatedDevice) -> bool:
        """True: an hour is over, and its quota is there again."""
        now = self._now()
        is_over = state.hour_began is not None and now - state.hour_began >= QUOTA_S
        if state.hour_began is None or is_over:
            state.hour_began = now
        return is_over

    def _restrict_anew(self, state: GatedDevice) -> None:
        """The table, the chain or the device is not what we thought."""
        try:
            self._rebuild()
        except NetlinkError as exc:
            raise _gate_error(exc) from exc

    def open(self, device: str, lease_s: float | None) -> None:
        """Let frames leave; nftables, which all pass, comes last. A device that is open gets its lease renewed."""
        state = self._device(device)
        try:
            if state.regime is not Regime.OPEN:
                self._below.free(state)
            state.regime, state.lease_s, state.mark, state.is_off = Regime.OPEN, lease_s, None, False
            if lease_s is None:
                self._forget(device)
            else:
                self._let(device, lease_s)
        except NetlinkError as exc:
            raise _gate_error(exc) from exc

    def reapply(self) -> list[str]:
        """Compare the kernel with what was asked for and mend it at once. Returns what was mended, in words."""
        mended = []
        try:
            if self._mend_table():
                mended.append("table netdev meshd had been changed or removed")
        except NetlinkError as exc:
            raise _gate_error(exc) from exc
        for name, state in self._devices.items():
            if state.regime is not Regime.OPEN:
                mended += [f"{name}: {what}" for what in self._below.hold(state)]
        return mended

    def counters(self) -> Mapping[str, GateCounters]:
        """By device, for every device that exists."""
        try:
            return self._counters(self._table.state())
        except NetlinkError as exc:
            raise _gate_error(exc) from exc

    def problems(self) -> Mapping[str, str]:
        """By device: what is weaker than it should be."""
        return {name: "; ".join(state.problems.values()) for name, state in self._devices.items() if state.problems}

    def disconnect(self) -> None:
        """Close the sockets; everything that was laid stays."""
        self._table.close_socket()
        self._tc.close_socket()

    def release(self) -> None:
        """Open everything and leave nothing behind: for tests and for taking meshd off a host."""
        try:
            for name, state in self._devices.items():
                self._below.free(state)
                found = self._tc.device(name)
                if found is not None:
                    self._tc.remove_clsact(found.index)
            self._table.delete()
        except NetlinkError as exc:
            raise _gate_error(exc) from exc
        finally:
            self.disconnect()

    def _device(self, name: str) -> GatedDevice:
        return self._devices.setdefault(name, GatedDevice(name, tuple(self._exceptions(name) or ())))

    def _shut(self, devices: Iterable[str]) -> None:
        states = [self._device(name) for name in devices]
        unchained = [state.rules for state in states if state.name not in self._chained]
        marked = [(state.name, state.mark) for state in states if state.mark is not None]
        limited = [flow for state in states if state.name in self._chained for flow in state.flows]
        for state in states:
            state.regime, state.mark = Regime.CLOSED, None
        try:
            self._table.shut([state.name for state in states], unchained, marked, limited)
        except NetlinkError:
            self._rebuild()  # the table, a chain or a device is not what we thought
        else:
            self._chained.update(rules.device for rules in unchained)

    def _let(self, device: str, lease_s: float) -> None:
        if device not in self._chained:
            self._rebuild()
            return
        try:
            self._table.let(device, lease_s)
        except NetlinkError:
            self._rebuild()

    def _forget(self, device: str) -> None:
        if device not in self._chained:
            return
        try:
            self._table.forget(device)
        except NetlinkError:
            self._rebuild()
        self._chained.discard(device)

    def _chained_devices(self) -> list[GatedDevice]:
        """Those that have a chain."""
        return [each for each in self._devices.values() if each.regime is not Regime.OPEN or each.lease_s is not None]

    def _count_before(self, table: TableState) -> None:
        """Keep what chains have counted that are about to be laid anew."""
        for name, chain in table.chains.items():
            if name in self._devices:
                self._devices[name].blocked_before += chain.dropped_frames
                self._devices[name].excepted_before += chain.excepted_frames
                self._devices[name].used_bytes = chain.used_bytes or self._devices[name].used_bytes

    def _rebuild(self) -> None:
        """Lay the whole table anew, in one transaction."""
        self._count_before(self._table.state())
        wanted = self._chained_devices()
        for attempt in range(REBUILD_ATTEMPTS_MAX):
            leases = {each.name: each.lease_s for each in wanted if each.regime is Regime.OPEN}
            limited = {
                flow: each.lease_s
                for each in wanted
                if each.regime is Regime.LIMITED and each.lease_s is not None
                for flow in each.flows
            }
            try:
                self._table.rebuild([each.rules for each in wanted], leases, limited)
            except NetlinkError as exc:
                if exc.errno != errno.ENOENT or attempt + 1 == REBUILD_ATTEMPTS_MAX:
                    raise
                # Before Linux 6.16 there is no chain for a device that does not exist.
                wanted = [each for each in wanted if self._tc.device(each.name) is not None]
            else:
                break
        self._chained = {each.name for each in wanted}

    def _mend_table(self) -> bool:
        """True: the table was not as it should be, and is now."""
        table = self._table.state()
        missing = [each.name for each in self._chained_devices() if not self._is_whole(each, table)]
        wrong = [name for name in table.leases if not self._is_in(name, Regime.OPEN)]
        wrong += [name for name, _ in table.limited if not self._is_in(name, Regime.LIMITED)]
        if not wrong and all(self._tc.device(name) is None for name in missing):
            return False
        self._rebuild()
        return True

    @staticmethod
    def _is_whole(state: GatedDevice, table: TableState) -> bool:
        chain = table.chains.get(state.name)
        return chain is not None and chain.is_as(state.rules)

    def _is_in(self, name: str, regime: Regime) -> bool:
        return name in self._devices and self._devices[name].regime is regime

    def _counters(self, table: TableState) -> dict[str, GateCounters]:
        counted = {}
        limited = {name for name, _ in table.limited}
        for name, state in self._devices.items():
            device = self._tc.device(name)
            if device is None:
                continue
            chain = table.chains.get(name)
            is_held = (chain is not None and chain.is_drop) or self._tc.has_drop(device.index)
            counted[name] = GateCounters(
                tx_frames=device.tx_frames,
                blocked_frames=state.blocked_before + (chain.dropped_frames if chain else 0),
                is_open=name in table.leases or name in limited or not is_held,
                marked_frames=chain.marked_frames if chain else 0,
                marked_bytes=chain.marked_bytes if chain else 0,
                quota_used_bytes=chain.used_bytes if chain else state.used_bytes,
                excepted_frames=state.excepted_before + (chain.excepted_frames if chain else 0),
            )
            state.used_bytes = counted[name].quota_used_bytes
        return counted


def _remedy(number: int | None) -> str:
    remedy = _REMEDY.get(number or 0)
    return f"; {remedy}" if remedy else ""


def _gate_error(exc: NetlinkError) -> GateError:
    return GateError(f"emission gate: {exc}{_remedy(exc.errno)}")
