# SPDX-License-Identifier: Apache-2.0
"""The emission gate for real: three layers of the kernel below every socket of this host (DESIGN section 7).

1. `nfnetlink`: an nftables egress chain with policy drop, and a set of devices that may send, whose elements run out by
   themselves (the dead-man's lease). It also stops what bypasses the qdisc (PACKET_QDISC_BYPASS).
2. `traffic_control`: a classic BPF drop at the clsact egress while closed. It holds when somebody flushes the ruleset,
   and stops what netfilter egress skips by design (tc redirect).
3. A blackhole as root qdisc while closed: what waits behind both hooks is purged; `shaping` keeps what stood there.

AF_XDP and XDP redirect pass all three: only the device's own state or the radio's transmit inhibit stops them. A device
with a lease is always in the table; one without (not radiating) only while it is closed by order, so that neither a
stalled daemon nor an expired lease cuts an operator off. What to close and when is `meshd.emcon.policy`.
"""

import errno
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from meshd.base.errors import GateError
from meshd.emcon.gate import GateCounters
from meshd.linux.netlink import NetlinkError
from meshd.linux.nfnetlink import GateTable, TableState, chain_name
from meshd.linux.shaping import (
    RECORD_SIZE_MAX_BYTES,
    ShapingRecord,
    ShapingRecordError,
    decode_record_untrusted,
    encode_record,
)
from meshd.linux.traffic_control import OUR_ROOT, TrafficControl

REBUILD_ATTEMPTS_MAX: Final = 3
"""Devices may come and go between looking and laying."""
MISSING: Final = "the device does not exist: it is gated as soon as it appears"
_REMEDY: Final = {
    errno.EPERM: "run meshd with CAP_NET_ADMIN (its systemd unit grants it), or in a lab set `gate = false` in [emcon]",
    errno.EOPNOTSUPP: "the kernel needs nftables with the netdev egress hook (Linux 5.16, CONFIG_NETFILTER_EGRESS)",
    errno.EPROTONOSUPPORT: "the kernel needs nftables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_NETDEV)",
}


@dataclass(slots=True)
class _Device:
    """What is wanted of one device, and what is known about it."""

    is_closed: bool
    lease_s: float | None = None
    record: ShapingRecord = ()
    blocked_before: int = 0
    """Frames counted by chains that somebody removed since."""
    mark: int | None = None
    """Of the flow that its silence was broken for, until it is closed or opened again."""
    problems: dict[str, str] = field(default_factory=dict)
    """By layer."""


class KernelGate:
    """`meshd.emcon.gate.EmissionGate` on the running kernel, in the network namespace where it is made.

    Resource handling: two netlink sockets until `disconnect` or `release`; what it laid stays when the process ends.
    Errors: GateError everywhere, naming the remedy.
    """

    def __init__(self, shaping_dir: Path | None = None) -> None:
        """`shaping_dir`: where to note what stood at a closed device's root, for the next start (below /run)."""
        try:
            self._table = GateTable()
            self._tc = TrafficControl()
        except OSError as exc:
            raise GateError(f"no netlink socket for the emission gate: {exc}{_remedy(exc.errno)}") from exc
        self._shaping_dir = shaping_dir
        self._devices: dict[str, _Device] = {}
        self._chained: set[str] = set()

    @property
    def ports(self) -> Collection[int]:
        """Netlink port numbers that notifications about our own changes carry."""
        return (self._table.port, self._tc.port)

    def probe(self) -> list[str]:
        """Pieces that this host lacks, in words; empty: all is there. Nothing is changed."""
        lacking = []
        for name, call in (("nftables egress", self._table.probe), ("clsact with classic BPF", self._tc.probe)):
            try:
                call()
            except NetlinkError as exc:
                lacking.append(f"{name}: {exc}{_remedy(exc.errno)}")
        return lacking

    def adopt(self, devices: Collection[str]) -> None:
        """Take over the table that the boot unit or an earlier daemon laid, all of its devices and these closed."""
        try:
            found = self._table.state().chains
            for name in sorted({*devices, *found}):
                self._devices.setdefault(name, _Device(is_closed=True)).is_closed = True
            self._rebuild()
        except NetlinkError as exc:
            raise _gate_error(exc) from exc
        for name in self._devices:
            self._close_below(name)

    def close(self, devices: Sequence[str]) -> None:
        """Shut all of these in one transaction, then the layers below, then look whether it is so."""
        for name in devices:
            self._devices.setdefault(name, _Device(is_closed=True)).is_closed = True
        failure: NetlinkError | None = None
        try:
            self._shut(devices)
        except NetlinkError as exc:
            failure = exc
        for name in devices:
            self._close_below(name)
        if failure is None:
            try:
                self._mend_table()
            except NetlinkError as exc:
                failure = exc
        if failure is not None:
            raise _gate_error(failure)

    def break_for(self, device: str, mark: int, quota_bytes: int, window_s: float) -> None:
        """Let one flow out of a closed device; nftables, which ends it by itself, comes last.

        The other layers stay open for that flow until `close`, but nothing passes nftables when the window is over.
        """
        self.close([device])
        state = self._devices[device]
        found = self._tc.device(device)
        if found is None:
            raise GateError(f"emission gate: silence is not broken on {device}: {MISSING}")
        try:
            self._tc.attach_marked(found.index, mark)
            self._tc.detach_drop(found.index)
            self._unsilence_queue(device, found.index, state)
            state.mark = mark
            self._table.let_marked(device, mark, quota_bytes, window_s)
        except NetlinkError as exc:
            self.close([device])
            raise _gate_error(exc) from exc

    def open(self, device: str, lease_s: float | None) -> None:
        """Let frames leave; nftables, which all pass, comes last. A device that is open gets its lease renewed."""
        state = self._devices.setdefault(device, _Device(is_closed=True))
        try:
            if state.is_closed:
                self._open_below(device, state)
            state.is_closed, state.lease_s = False, lease_s
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
            if state.is_closed:
                mended += [f"{name}: {what}" for what in self._close_below(name)]
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
                self._open_below(name, state)
                found = self._tc.device(name)
                if found is not None:
                    self._tc.remove_clsact(found.index)
            self._table.delete()
        except NetlinkError as exc:
            raise _gate_error(exc) from exc
        finally:
            self.disconnect()

    def _shut(self, devices: Sequence[str]) -> None:
        unchained = [name for name in devices if name not in self._chained]
        try:
            marks = {name: state.mark for name in devices if (state := self._devices[name]).mark is not None}
            self._table.shut(devices, unchained, marks)
        except NetlinkError:
            self._rebuild()  # the table, a chain or a device is not what we thought
        else:
            self._chained.update(unchained)
        finally:
            for name in devices:
                self._devices[name].mark = None

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

    def _wanted(self) -> tuple[list[str], dict[str, float | None]]:
        """Devices that have a chain, and those of them that may send."""
        chained = [name for name, state in self._devices.items() if state.is_closed or state.lease_s is not None]
        leases = {name: state.lease_s for name, state in self._devices.items() if not state.is_closed}
        return chained, {name: lease_s for name, lease_s in leases.items() if lease_s is not None}

    def _rebuild(self) -> None:
        """Lay the whole table anew, in one transaction."""
        for name, chain in self._table.state().chains.items():
            if name in self._devices:
                self._devices[name].blocked_before += chain.dropped_frames
        chained, leases = self._wanted()
        for attempt in range(REBUILD_ATTEMPTS_MAX):
            try:
                self._table.rebuild(chained, leases)
            except NetlinkError as exc:
                if exc.errno != errno.ENOENT or attempt + 1 == REBUILD_ATTEMPTS_MAX:
                    raise
                # Before Linux 6.16 there is no chain for a device that does not exist.
                chained = [name for name in chained if self._tc.device(name) is not None]
            else:
                break
        self._chained = set(chained)

    def _mend_table(self) -> bool:
        """True: the table was not as it should be, and is now."""
        state = self._table.state()
        chained, _ = self._wanted()
        missing = [name for name in chained if name not in state.chains or not state.chains[name].is_drop]
        wrong = [name for name in state.leases if name not in self._devices or self._devices[name].is_closed]
        if not wrong and all(self._tc.device(name) is None for name in missing):
            return False
        self._rebuild()
        return True

    def _close_below(self, name: str) -> list[str]:
        """Layers 2 and 3 of one device. Returns what had to be done, in words; a refusal becomes a problem."""
        state = self._devices[name]
        state.problems = {}
        done: list[str] = []
        try:
            device = self._tc.device(name)
            if device is None:
                state.problems["device"] = MISSING
                return done
            if state.mark is not None:
                if not self._tc.has_marked(device.index):
                    self._tc.attach_marked(device.index, state.mark)
                    done.append("the clsact drop was not there")
                return done
            if not self._tc.has_drop(device.index):
                self._tc.attach_drop(device.index)
                done.append("the clsact drop was not there")
            self._tc.detach_marked(device.index)
        except NetlinkError as exc:
            if exc.errno == errno.ENODEV:
                state.problems["device"] = MISSING
                return done
            state.problems["clsact"] = f"no clsact drop: {exc}"
        try:
            if device is not None and self._silence_queue(name, device.index, state):
                done.append("the root qdisc was not ours")
        except NetlinkError as exc:
            state.problems["qdisc"] = f"the queue was not purged: {exc}"
        return done

    def _silence_queue(self, name: str, index: int, state: _Device) -> bool:
        root = self._tc.root(index)
        if root is not None and root.handle == OUR_ROOT:
            state.record = state.record or self._noted(name, state)
            return False
        state.record = self._tc.record(index)
        self._note(name, state)
        self._tc.blackhole(index)
        return True

    def _open_below(self, name: str, state: _Device) -> None:
        state.problems = {}
        device = self._tc.device(name)
        if device is None:
            state.problems["device"] = MISSING
            return
        try:
            self._unsilence_queue(name, device.index, state)
            self._tc.detach_drop(device.index)
            self._tc.detach_marked(device.index)
            state.mark = None
        except NetlinkError as exc:
            if exc.errno != errno.ENODEV:
                raise
            state.problems["device"] = MISSING

    def _unsilence_queue(self, name: str, index: int, state: _Device) -> None:
        if left := self._tc.restore(index, state.record):
            state.problems["qdisc"] = "shaping not restored: " + "; ".join(left)
        state.record = ()
        self._note(name, state)

    def _counters(self, table: TableState) -> dict[str, GateCounters]:
        counted = {}
        for name, state in self._devices.items():
            device = self._tc.device(name)
            if device is None:
                continue
            chain = table.chains.get(name)
            blocked = state.blocked_before + (chain.dropped_frames if chain else 0)
            is_open = name in table.leases or not ((chain and chain.is_drop) or self._tc.has_drop(device.index))
            marked = (chain.marked_frames, chain.marked_bytes) if chain else (0, 0)
            counted[name] = GateCounters(device.tx_frames, blocked, is_open, *marked)
        return counted

    def _note(self, name: str, state: _Device) -> None:
        """Keep the record for a daemon that starts while the gate is closed; an empty one needs no file."""
        if self._shaping_dir is None:
            return
        path = self._shaping_dir / f"shaping-{chain_name(name)}"
        try:
            if not state.record:
                path.unlink(missing_ok=True)
                return
            self._shaping_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
            fresh = path.with_suffix(".new")
            fresh.write_bytes(encode_record(state.record))
            fresh.replace(path)
        except OSError as exc:
            state.problems["note"] = f"a restart would lose the shaping of this device: {exc}"

    def _noted(self, name: str, state: _Device) -> ShapingRecord:
        if self._shaping_dir is None:
            return ()
        path = self._shaping_dir / f"shaping-{chain_name(name)}"
        try:
            with path.open("rb") as file:
                return decode_record_untrusted(file.read(RECORD_SIZE_MAX_BYTES + 1))
        except FileNotFoundError:
            return ()
        except (OSError, ShapingRecordError) as exc:
            state.problems["note"] = f"the shaping of this device is lost: {exc}"
            return ()


def _remedy(number: int | None) -> str:
    remedy = _REMEDY.get(number or 0)
    return f"; {remedy}" if remedy else ""


def _gate_error(exc: NetlinkError) -> GateError:
    return GateError(f"emission gate: {exc}{_remedy(exc.errno)}")
