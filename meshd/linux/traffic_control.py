# SPDX-License-Identifier: Apache-2.0
"""A small rtnetlink client for the second and third layer of the gate: clsact drop and root qdisc; and for devices.

The second layer is a classic BPF program of one instruction, "drop", direct-action at the egress of the device's clsact
qdisc (in tc's words `bpf da bytecode "1,6 0 0 2"`), or a longer one that lets marked frames pass (`bpf_program`): it
loads with CAP_NET_ADMIN alone and holds when somebody flushes the nftables ruleset. The third is a `blackhole` as root
qdisc: setting it purges what waits in the queue, behind both hooks. What stood there before is kept as the kernel's own
messages (`ShapingRecord`) and replayed on opening, so that this module need not know what a site shapes with
(linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h).
"""

import errno
import struct
from dataclasses import dataclass
from typing import Final

from meshd.linux import netlink
from meshd.linux.bpf_program import DROP_ALL, INSTRUCTION, PASS_ALL
from meshd.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    NetlinkError,
    NetlinkSocket,
    as_text,
    attribute,
    attributes,
    nested,
    text,
)
from meshd.linux.shaping import ROOT, TC_MESSAGE, ShapingRecord, TcObject, make_record

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTCLASS, RTM_GETTCLASS = 40, 42
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46

IFLA_IFNAME: Final = 3
IFLA_STATS64: Final = 23
IFLA_EXT_MASK: Final = 29

OUR_ROOT: Final = 0x6D640000
"""Handle of our blackhole ("md"): a root qdisc with another one is the site's."""
OUR_FILTER: Final = 0x6D64

_CLSACT_PARENT: Final = 0xFFFFFFF1
_CLSACT: Final = 0xFFFF0000
_CLSACT_EGRESS: Final = 0xFFFFFFF3
_CLSACT_INGRESS: Final = 0xFFFFFFF2
_FIRST_PREFERENCE_ALL_PROTOCOLS: Final = 1 << 16 | 0x0300
_KIND, _OPTIONS, _STAB = 1, 2, 8
_PROBE_FILTER: Final = 0x6D65
_PROGRAM_FILTER: Final = 0x6D66
_DIRECT_ACTION: Final = struct.pack("=I", 1)
_IFINFO: Final = struct.Struct("=BBHiII")
_IFF_UP: Final = 0x1


@dataclass(frozen=True, slots=True)
class Device:
    """A network device as it is now."""

    name: str
    index: int
    tx_frames: int
    is_up: bool
    """Administratively; it need not have a carrier."""


class TrafficControl:
    """Calls on devices, qdiscs and filters; each is complete on return.

    Errors: NetlinkError; ENODEV means that the device has just gone.
    """

    def __init__(self, socket: NetlinkSocket | None = None) -> None:
        self._socket = NetlinkSocket(netlink.NETLINK_ROUTE) if socket is None else socket

    @property
    def port(self) -> int:
        """Port number that notifications about our own changes carry."""
        return self._socket.port

    def close_socket(self) -> None:
        """Let go of the socket; everything stays as it is."""
        self._socket.close()

    def device(self, name: str) -> Device | None:
        """The device with this name, or None."""
        body = _IFINFO.pack(0, 0, 0, 0, 0, 0) + text(IFLA_IFNAME, name)
        try:
            answers = self._socket.dump(RTM_GETLINK, body, f"looking up {name}", flags=0)
        except NetlinkError as exc:
            if exc.errno == errno.ENODEV:
                return None
            raise
        found = [device_of(answer) for answer in answers if answer.type == RTM_NEWLINK]
        return found[0] if found else None

    def set_up(self, index: int, is_up: bool) -> None:
        """Set the device up or down."""
        body = _IFINFO.pack(0, 0, 0, index, _IFF_UP if is_up else 0, _IFF_UP)
        self._socket.request(RTM_NEWLINK, 0, body, "setting the device " + ("up" if is_up else "down"))

    def root(self, index: int) -> TcObject | None:
        """The root qdisc; None: the device has none of its own."""
        for qdisc in self._dump(RTM_GETQDISC, index):
            if qdisc.parent == ROOT:
                return qdisc
        return None

    def blackhole(self, index: int) -> None:
        """Put our own blackhole in the place of the root qdisc, whatever it is; its queue is purged by that."""
        body = TC_MESSAGE.pack(0, 0, 0, index, OUR_ROOT, ROOT, 0) + text(_KIND, "blackhole")
        self._socket.request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body, "replacing the root qdisc")

    def record(self, index: int) -> ShapingRecord:
        """What stands at the root now and below it. The kernel's own default gives an empty record."""
        qdiscs = [found for found in self._dump(RTM_GETQDISC, index) if found.handle & 0xFFFF0000]
        roots = [found for found in qdiscs if found.parent == ROOT]
        if not roots or roots[0].handle == OUR_ROOT:
            return ()
        classes = self._dump(RTM_GETTCLASS, index)
        filters = {found.handle: self._filters(index, found.handle) for found in qdiscs}
        return make_record(roots[0], qdiscs, classes, filters)

    def restore(self, index: int, record: ShapingRecord) -> list[str]:
        """Take our blackhole away and make again what the record holds.

        Returns: in words, what the kernel would not make again.
        """
        root = self.root(index)
        if root is not None and root.handle == OUR_ROOT:
            body = TC_MESSAGE.pack(0, 0, 0, index, OUR_ROOT, ROOT, 0)
            self._socket.request(RTM_DELQDISC, 0, body, "removing our blackhole")
        elif root is not None and root.handle:
            return []  # the site has put something new there meanwhile: that is what it wants
        problems = []
        for item in record:
            try:
                flags = NLM_F_CREATE | (0 if item.parent == ROOT else NLM_F_EXCL)
                self._socket.request(item.type, flags, item.request_body(index), f"restoring {item.kind}")
            except NetlinkError as exc:
                problems.append(str(exc))
        return problems

    def attach_drop(self, index: int) -> None:
        """Drop everything at the clsact egress; does nothing where that is so already."""
        self._make_clsact(index)
        self._attach(index, OUR_FILTER, DROP_ALL)

    def detach_drop(self, index: int) -> None:
        """Remove the drop, if it is there; clsact itself stays, since a site may use it too."""
        self._detach(index, OUR_FILTER)

    def attach_program(self, index: int, program: bytes) -> None:
        """Put a program at the clsact egress that lets something pass, in the place of another such one."""
        self._make_clsact(index)
        self._detach(index, _PROGRAM_FILTER)
        self._attach(index, _PROGRAM_FILTER, program)

    def detach_program(self, index: int) -> None:
        """Remove what `attach_program` laid, if it is there."""
        self._detach(index, _PROGRAM_FILTER)

    def probe(self) -> None:
        """Try clsact and classic BPF on the loopback device with a program that lets everything pass.

        Errors: NetlinkError with what the kernel lacks.
        """
        loopback = self.device("lo")
        if loopback is None:
            raise NetlinkError(errno.ENODEV, "probing for clsact on lo")
        is_ours = self._make_clsact(loopback.index)
        try:
            self._attach(loopback.index, _PROBE_FILTER, PASS_ALL)
            self._detach(loopback.index, _PROBE_FILTER)
        finally:
            if is_ours:
                self.remove_clsact(loopback.index)

    def _make_clsact(self, index: int) -> bool:
        """True: it was not there before."""
        body = TC_MESSAGE.pack(0, 0, 0, index, _CLSACT, _CLSACT_PARENT, 0) + text(_KIND, "clsact")
        try:
            self._socket.request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body, "making a clsact qdisc")
        except NetlinkError as exc:
            if exc.errno != errno.EEXIST:
                raise
            return False
        return True

    def _attach(self, index: int, handle: int, program: bytes) -> None:
        options = nested(
            _OPTIONS,
            attribute(4, struct.pack("=H", len(program) // INSTRUCTION.size)),
            attribute(5, program),
            attribute(8, _DIRECT_ACTION),
        )
        body = _filter(index, handle) + text(_KIND, "bpf") + options
        try:
            self._socket.request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body, "attaching the BPF drop")
        except NetlinkError as exc:
            if exc.errno != errno.EEXIST:
                raise

    def _detach(self, index: int, handle: int) -> None:
        body = _filter(index, handle) + text(_KIND, "bpf")
        try:
            self._socket.request(RTM_DELTFILTER, 0, body, "removing the BPF drop")
        except NetlinkError as exc:
            if exc.errno not in (errno.ENOENT, errno.EINVAL) or self._has_filter(index, handle):
                raise

    def has_drop(self, index: int) -> bool:
        """True when our drop is attached."""
        return self._has_filter(index, OUR_FILTER)

    def has_program(self, index: int) -> bool:
        """True when there is one that lets something pass."""
        return self._has_filter(index, _PROGRAM_FILTER)

    def _has_filter(self, index: int, handle: int) -> bool:
        return any(found.handle == handle for found in self._filters(index, _CLSACT_EGRESS))

    def remove_clsact(self, index: int) -> None:
        """Remove the clsact qdisc unless somebody has filters there."""
        if self._filters(index, _CLSACT_EGRESS) or self._filters(index, _CLSACT_INGRESS):
            return
        body = TC_MESSAGE.pack(0, 0, 0, index, _CLSACT, _CLSACT_PARENT, 0)
        try:
            self._socket.request(RTM_DELQDISC, 0, body, "removing the clsact qdisc")
        except NetlinkError as exc:
            if exc.errno not in (errno.ENOENT, errno.EINVAL):
                raise

    def _filters(self, index: int, parent: int) -> list[TcObject]:
        """Filters at one parent, without the headers that stand for a whole preference."""
        try:
            return [found for found in self._dump(RTM_GETTFILTER, index, parent) if found.handle]
        except NetlinkError as exc:
            if exc.errno in (errno.ENOENT, errno.EINVAL):
                return []
            raise

    def _dump(self, kind: int, index: int, parent: int = 0) -> list[TcObject]:
        body = TC_MESSAGE.pack(0, 0, 0, index, 0, parent, 0)
        answers = self._socket.dump(kind, body, "reading qdiscs and filters")
        objects = [
            TcObject.from_dump(answer.type, answer.body) for answer in answers if len(answer.body) >= TC_MESSAGE.size
        ]
        return [found for found in objects if found.index == index]


def _filter(index: int, handle: int) -> bytes:
    return TC_MESSAGE.pack(0, 0, 0, index, handle, _CLSACT_EGRESS, _FIRST_PREFERENCE_ALL_PROTOCOLS)


def device_of(answer: Message) -> Device:
    """Read an RTM_NEWLINK or RTM_DELLINK."""
    _, _, _, index, flags, _ = _IFINFO.unpack_from(answer.body)
    parts = attributes(answer.body[_IFINFO.size :])
    stats = parts.get(IFLA_STATS64, b"")
    tx_frames = struct.unpack_from("=Q", stats, 8)[0] if len(stats) >= 16 else 0
    return Device(as_text(parts.get(IFLA_IFNAME)), index, tx_frames, bool(flags & _IFF_UP))
