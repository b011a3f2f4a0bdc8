# SPDX-License-Identifier: Apache-2.0
"""A small nfnetlink client for one nftables table: `table netdev meshd`, the first layer of the emission gate.

In nft's words the table is

    table netdev meshd {
        set tx_ok { type ifname; flags timeout; }
        set tx_marked { type ifname . mark; flags timeout; }
        chain egress-DEVICE {
            type filter hook egress device "DEVICE" priority 0; policy drop;
            oifname @tx_ok accept
            oifname . mark @tx_marked counter accept
            counter drop
        }
    }

Elements of `tx_marked` carry a quota: silence is broken for one flow until the time or the bytes have run out, with no
daemon needed to end it. The helper of the boot unit lays the same by `nft`, without the marked flows. Every change is
one batch, which the kernel takes whole or not at all (linux/netfilter/nf_tables.h). Needs CAP_NET_ADMIN and Linux 5.16
(egress hook). Other tables are never touched.
"""

import errno
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshd.linux import netlink
from meshd.linux.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NetlinkError,
    NetlinkSocket,
    as_text,
    attribute,
    attribute_list,
    attributes,
    be32,
    nested,
    text,
)

TABLE: Final = "meshd"
SET: Final = "tx_ok"
MARKED_SET: Final = "tx_marked"
CHAIN_PREFIX: Final = "egress-"

NFPROTO_NETDEV: Final = 5
SUBSYSTEM_NFTABLES: Final = 10

_BATCH_BEGIN: Final = 16
_BATCH_END: Final = 17
_NEWTABLE, _DELTABLE = 0, 2
_NEWCHAIN, _GETCHAIN, _DELCHAIN = 3, 4, 5
_NEWRULE, _GETRULE = 6, 7
_NEWSET = 9
_NEWSETELEM, _GETSETELEM, _DELSETELEM = 12, 13, 14

_NETDEV_EGRESS: Final = 1
_ACCEPT: Final = 1
_DROP: Final = 0
_REGISTER_VERDICT: Final = 0
_REGISTER_1: Final = 1
_REGISTER_2: Final = 2
_META_MARK: Final = 3
_META_OIFNAME: Final = 7
_SET_TIMEOUT: Final = 0x10
_IFNAME_BYTES: Final = 16
_NFT_TYPE_IFNAME: Final = 41
"""How `nft` names the key's type when it lists the set; the kernel does not care."""
_NFT_TYPE_IFNAME_MARK: Final = 41 << 6 | 19
_NFT_KEY_HOST_ORDER: Final = struct.pack("=BBI", 0, 4, 1)


_LEASED_RULE: Final = ["meta", "lookup", "immediate"]
_MARKED_RULE: Final = ["meta", "meta", "lookup", "counter", "immediate"]
_LAST_RULE: Final = ["counter", "immediate"]


@dataclass(frozen=True, slots=True)
class ChainState:
    """What the kernel says about one device's chain."""

    device: str
    is_drop: bool
    """Hooked at egress of that device with policy drop, and the rules are the ones that we lay."""
    dropped_frames: int
    marked_frames: int = 0
    """Let out while silence was broken."""
    marked_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TableState:
    """What the kernel says about the table."""

    chains: Mapping[str, ChainState]
    """By device."""
    leases: Mapping[str, float | None]
    """Devices in `tx_ok` and the seconds left; None: without an end."""


def chain_name(device: str) -> str:
    """Name of a device's chain; what `nft` would not read as a name is written in hex."""
    return CHAIN_PREFIX + re.sub(r"[^A-Za-z0-9.-]", lambda found: f"_{ord(found.group()):02x}", device)


class GateTable:
    """The table, as a set of calls that are one transaction each.

    Errors: NetlinkError. ENOENT means that somebody removed the table (or a device does not exist).
    """

    def __init__(self, socket: NetlinkSocket | None = None) -> None:
        self._socket = NetlinkSocket(netlink.NETLINK_NETFILTER) if socket is None else socket

    @property
    def port(self) -> int:
        """Port number that notifications about our own changes carry."""
        return self._socket.port

    def close_socket(self) -> None:
        """Let go of the socket; the table stays as it is."""
        self._socket.close()

    def rebuild(self, devices: Sequence[str], leases: Mapping[str, float | None]) -> None:
        """Replace the whole table: chains for `devices`, `tx_ok` as `leases` says. No frame passes in between."""
        requests = _new_table()
        for device in devices:
            requests += _chain_requests(device)
        requests += [_element(_NEWSETELEM, device, lease_s) for device, lease_s in leases.items()]
        self._commit(requests, "replacing table netdev meshd")

    def shut(
        self, devices: Sequence[str], unchained: Sequence[str] = (), marks: Mapping[str, int] | None = None
    ) -> None:
        """Take these out of `tx_ok` in one transaction; those of them that have no chain yet get one.

        Args: `marks` that `let_marked` let out of devices, and which are shut as well.
        """
        requests = [request for device in unchained for request in _chain_requests(device)]
        for device in devices:
            # Added first, so that deleting one that is not there can't fail the others; nobody sees it in between.
            requests += [_element(_NEWSETELEM, device, 1.0), _element(_DELSETELEM, device, None)]
        for device, mark in (marks or {}).items():
            requests.append(_marked_element(_NEWSETELEM, device, mark, 1, 1.0))
            requests.append(_marked_element(_DELSETELEM, device, mark))
        self._commit(requests, "closing " + ", ".join(devices))

    def let(self, device: str, lease_s: float | None) -> None:
        """Put a device into `tx_ok` for that long, or for longer if it is there already."""
        # Before Linux 6.12 adding an element that exists leaves its timeout alone: add, delete, add.
        requests = [
            _element(_NEWSETELEM, device, lease_s),
            _element(_DELSETELEM, device, None),
            _element(_NEWSETELEM, device, lease_s),
        ]
        self._commit(requests, f"opening {device}")

    def let_marked(self, device: str, mark: int, quota_bytes: int, window_s: float) -> None:
        """Let frames with this mark out until the window or the quota is over, whichever comes first."""
        requests = [
            _marked_element(_NEWSETELEM, device, mark, quota_bytes, window_s),
            _marked_element(_DELSETELEM, device, mark),
            _marked_element(_NEWSETELEM, device, mark, quota_bytes, window_s),
        ]
        self._commit(requests, f"breaking the silence of {device}")

    def forget(self, device: str) -> None:
        """Remove the chain of one device: frames leave it as if there were no gate."""
        self._commit([_request(_DELCHAIN, 0, text(1, TABLE), text(3, chain_name(device)))], f"freeing {device}")

    def delete(self) -> None:
        """Remove the table, if it is there."""
        self._commit([_table(_NEWTABLE, NLM_F_CREATE), _table(_DELTABLE)], "removing table netdev meshd")

    def leases(self) -> dict[str, float | None]:
        """Devices that may send now, and for how long."""
        body = _header(NFPROTO_NETDEV) + text(1, TABLE) + text(2, SET)
        found: dict[str, float | None] = {}
        for answer in self._get(_GETSETELEM, NLM_F_DUMP, body, "reading set tx_ok"):
            for _, element in attribute_list(attributes(answer.body[4:]).get(3, b"")):
                parts = attributes(element)
                key = attributes(parts.get(1, b"")).get(1)
                expiration = parts.get(5)
                left_s = None if expiration is None else struct.unpack(">Q", expiration)[0] / 1000
                found[as_text(key)] = left_s
        return found

    def state(self) -> TableState:
        """Read everything back for verification. A table that is not there has no chains."""
        try:
            chains = {device: self._chain(name, device) for name, device in self._drop_chains().items()}
            return TableState(chains, self.leases())
        except NetlinkError as exc:
            if exc.errno == errno.ENOENT:
                return TableState({}, {})
            raise

    def _drop_chains(self) -> dict[str, str]:
        """Our base chains with policy drop on an egress hook: chain name to device."""
        found: dict[str, str] = {}
        for answer in self._get(_GETCHAIN, NLM_F_DUMP, _header(NFPROTO_NETDEV), "reading chains"):
            parts = attributes(answer.body[4:])
            hook = attributes(parts.get(4, b""))
            if as_text(parts.get(1)) != TABLE or hook.get(1) != struct.pack(">I", _NETDEV_EGRESS):
                continue
            if parts.get(5) != struct.pack(">I", _DROP):
                continue
            device = as_text(hook[2]) if 2 in hook else ""
            for _, name in attribute_list(hook.get(4, b"")):
                device = as_text(name)
            found[as_text(parts.get(3))] = device
        return {name: device for name, device in found.items() if name == chain_name(device)}

    def _chain(self, name: str, device: str) -> ChainState:
        body = _header(NFPROTO_NETDEV) + text(1, TABLE) + text(2, name)
        rules = [_expressions(answer) for answer in self._get(_GETRULE, NLM_F_DUMP, body, f"reading chain {name}")]
        names = [[kind for kind, _ in rule] for rule in rules]
        if names not in ([_LEASED_RULE, _LAST_RULE], [_LEASED_RULE, _MARKED_RULE, _LAST_RULE]):
            return ChainState(device, is_drop=False, dropped_frames=0)
        let_out = _counted(rules[1][3][1]) if len(rules) == 3 else (0, 0)
        return ChainState(device, True, _counted(rules[-1][0][1])[0], *let_out)

    def _get(self, kind: int, flags: int, body: bytes, doing: str) -> list[netlink.Message]:
        return self._socket.dump(SUBSYSTEM_NFTABLES << 8 | kind, body, doing, flags)

    def probe(self) -> None:
        """Ask the kernel whether it could lay such a table. Nothing is changed: a batch without an end is dropped.

        Errors: NetlinkError with what it lacks.
        """
        requests = [*_new_table(), *_chain_requests("lo"), _element(_NEWSETELEM, "lo", 1.0)]
        requests.append(_marked_element(_NEWSETELEM, "lo", 1, 1, 1.0))
        self._commit(requests, "probing for an nftables egress hook", is_trial=True)

    def _commit(self, requests: Sequence[bytes], doing: str, is_trial: bool = False) -> None:
        """One batch: the last request asks for the acknowledgement that stands for all of them."""
        last = len(requests)
        datagram = [netlink.message(_BATCH_BEGIN, 0, _header(0, SUBSYSTEM_NFTABLES), 0)]
        for number, request in enumerate(requests, 1):
            kind, flags = struct.unpack_from("=HH", request)
            flags |= NLM_F_ACK if number == last else 0
            datagram.append(netlink.message(SUBSYSTEM_NFTABLES << 8 | kind, flags, request[4:], number))
        if not is_trial:
            datagram.append(netlink.message(_BATCH_END, 0, _header(0, SUBSYSTEM_NFTABLES), last + 1))
        self._socket.transact(b"".join(datagram), last, doing)


def _header(family: int, resource: int = 0) -> bytes:
    """struct nfgenmsg: family, version 0, resource in network order."""
    return struct.pack(">BBH", family, 0, resource)


def _request(kind: int, flags: int, *parts: bytes) -> bytes:
    """A request of a batch: its type and flags stand before the body until `_commit` numbers it."""
    return struct.pack("=HH", kind, flags) + _header(NFPROTO_NETDEV) + b"".join(parts)


def _table(kind: int, flags: int = 0) -> bytes:
    return _request(kind, flags, text(1, TABLE))


def _new_table() -> list[bytes]:
    """In the place of the one that is there, if any: the table and its sets, empty."""
    return [
        _table(_NEWTABLE, NLM_F_CREATE),
        _table(_DELTABLE),
        _table(_NEWTABLE, NLM_F_CREATE),
        _new_set(SET, 1, _NFT_TYPE_IFNAME, _IFNAME_BYTES),
        _new_set(MARKED_SET, 2, _NFT_TYPE_IFNAME_MARK, _IFNAME_BYTES + 4),
    ]


def _new_set(name: str, number: int, key_type: int, key_bytes: int) -> bytes:
    return _request(
        _NEWSET,
        NLM_F_CREATE,
        text(1, TABLE),
        text(2, name),
        be32(3, _SET_TIMEOUT),
        be32(4, key_type),
        be32(5, key_bytes),
        be32(10, number),
        attribute(13, _NFT_KEY_HOST_ORDER),
    )


def _element(kind: int, device: str, lease_s: float | None) -> bytes:
    key = nested(1, attribute(1, device.encode().ljust(_IFNAME_BYTES, b"\0")))
    timeout = b"" if lease_s is None else attribute(4, struct.pack(">Q", max(1, round(lease_s * 1000))))
    flags = NLM_F_CREATE if kind == _NEWSETELEM else 0
    return _request(kind, flags, text(1, TABLE), text(2, SET), nested(3, nested(1, key, timeout)))


def _marked_element(kind: int, device: str, mark: int, quota_bytes: int = 0, window_s: float = 0.0) -> bytes:
    parts = [nested(1, attribute(1, device.encode().ljust(_IFNAME_BYTES, b"\0") + struct.pack("=I", mark)))]
    flags = 0
    if kind == _NEWSETELEM:
        flags = NLM_F_CREATE
        parts.append(attribute(4, struct.pack(">Q", max(1, round(window_s * 1000)))))
        quota = nested(2, attribute(1, struct.pack(">Q", quota_bytes)), be32(2, 0))
        parts.append(nested(7, text(1, "quota"), quota))
    return _request(kind, flags, text(1, TABLE), text(2, MARKED_SET), nested(3, nested(1, *parts)))


def _chain_requests(device: str) -> list[bytes]:
    """The base chain of one device and its rules."""
    name = chain_name(device)
    hook = nested(4, be32(1, _NETDEV_EGRESS), be32(2, 0), text(3, device))
    chain = _request(_NEWCHAIN, NLM_F_CREATE, text(1, TABLE), text(3, name), hook, be32(5, _DROP), text(7, "filter"))
    permitted = _rule(
        name,
        _expression("meta", be32(2, _META_OIFNAME), be32(1, _REGISTER_1)),
        _expression("lookup", text(1, SET), be32(2, _REGISTER_1)),
        _verdict(_ACCEPT),
    )
    counter = _expression("counter", attribute(1, bytes(8)), attribute(2, bytes(8)))
    marked = _rule(
        name,
        _expression("meta", be32(2, _META_OIFNAME), be32(1, _REGISTER_1)),
        _expression("meta", be32(2, _META_MARK), be32(1, _REGISTER_2)),
        _expression("lookup", text(1, MARKED_SET), be32(2, _REGISTER_1)),
        counter,
        _verdict(_ACCEPT),
    )
    return [chain, permitted, marked, _rule(name, counter, _verdict(_DROP))]


def _rule(chain: str, *expressions: bytes) -> bytes:
    flags = NLM_F_CREATE | NLM_F_APPEND
    return _request(_NEWRULE, flags, text(1, TABLE), text(2, chain), nested(4, *expressions))


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *parts))


def _verdict(code: int) -> bytes:
    return _expression("immediate", be32(1, _REGISTER_VERDICT), nested(2, nested(2, be32(1, code))))


def _counted(counter: bytes) -> tuple[int, int]:
    """Frames and bytes."""
    parts = attributes(counter)
    return struct.unpack(">Q", parts.get(2, bytes(8)))[0], struct.unpack(">Q", parts.get(1, bytes(8)))[0]


def _expressions(answer: netlink.Message) -> list[tuple[str, bytes]]:
    """A rule's expressions: name and attributes of each."""
    listed = attributes(answer.body[4:]).get(4, b"")
    found = []
    for _, expression in attribute_list(listed):
        parts = attributes(expression)
        found.append((as_text(parts.get(1)), parts.get(2, b"")))
    return found
