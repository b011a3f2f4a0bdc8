# SPDX-License-Identifier: Apache-2.0
"""A small nfnetlink client for one nftables table: `table netdev meshd`, the first layer of the emission gate.

In nft's words the table is

    table netdev meshd {
        set tx_ok { type ifname; flags timeout; }
        set tx_marked { type ifname . mark; flags timeout; }
        set tx_limited { type ifname . mark; flags timeout; }
        chain egress-DEVICE {
            type filter hook egress device "DEVICE" priority 0; policy drop;
            (the rules of `gate_chain`)
        }
    }

Elements of `tx_marked` carry a quota: silence is broken for one flow until the time or the bytes have run out, with no
daemon needed to end it. Those of `tx_limited` are leases like `tx_ok`'s, within what the chain's rule says. The helper
of the boot unit lays the same by `nft`, without any marked flows. Every change is one batch, which the kernel takes
whole or not at all (linux/netfilter/nf_tables.h). Needs CAP_NET_ADMIN and Linux 5.16 (egress hook). Other tables are
never touched.
"""

import errno
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshd.emcon.gate import GateLimits
from meshd.linux import netlink
from meshd.linux import nft_message as nft
from meshd.linux.gate_chain import (
    LIMITED_SET,
    MARKED_SET,
    SET,
    ChainRules,
    ChainState,
    element_key,
    read_rules,
    rules_of,
)
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
from meshd.linux.nft_message import NFPROTO_NETDEV

TABLE: Final = "meshd"
CHAIN_PREFIX: Final = "egress-"
SUBSYSTEM_NFTABLES: Final = 10

_BATCH_BEGIN: Final = 16
_BATCH_END: Final = 17
_NEWTABLE, _DELTABLE = 0, 2
_NEWCHAIN, _GETCHAIN, _DELCHAIN = 3, 4, 5
_NEWRULE, _GETRULE, _DELRULE = 6, 7, 8
_NEWSET = 9
_NEWSETELEM, _GETSETELEM, _DELSETELEM = 12, 13, 14

_NETDEV_EGRESS: Final = 1
_SET_TIMEOUT: Final = 0x10
_IFNAME_BYTES: Final = 16
_NFT_TYPE_IFNAME: Final = 41
"""How `nft` names the key's type when it lists the set; the kernel does not care."""
_NFT_TYPE_IFNAME_MARK: Final = 41 << 6 | 19
_NFT_KEY_HOST_ORDER: Final = struct.pack("=BBI", 0, 4, 1)

Flow = tuple[str, int]
"""A device and a mark."""


@dataclass(frozen=True, slots=True)
class TableState:
    """What the kernel says about the table."""

    chains: Mapping[str, ChainState]
    """By device."""
    leases: Mapping[str, float | None]
    """Devices in `tx_ok` and the seconds left; None: without an end."""
    limited: frozenset[Flow] = frozenset()
    """Those in `tx_limited`."""


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

    def rebuild(
        self, chains: Sequence[ChainRules], leases: Mapping[str, float | None], limited: Mapping[Flow, float]
    ) -> None:
        """Replace the whole table: these chains, and these leases in its sets. No frame passes between."""
        requests = _new_table()
        for rules in chains:
            requests += _chain_requests(rules)
        requests += [_element(_NEWSETELEM, SET, element_key(device), lease_s) for device, lease_s in leases.items()]
        requests += [_element(_NEWSETELEM, LIMITED_SET, element_key(*flow), left_s) for flow, left_s in limited.items()]
        self._commit(requests, "replacing table netdev meshd")

    def shut(
        self,
        devices: Sequence[str],
        unchained: Sequence[ChainRules] = (),
        marked: Iterable[Flow] = (),
        limited: Iterable[Flow] = (),
    ) -> None:
        """Take these out of `tx_ok` in one transaction; those of them that have no chain yet get one.

        Args: what `let_marked` and `let_limited` let out of devices, and which is shut as well.
        """
        requests = [request for rules in unchained for request in _chain_requests(rules)]
        keys = [(SET, element_key(device)) for device in devices]
        keys += [(MARKED_SET, element_key(*flow)) for flow in marked]
        keys += [(LIMITED_SET, element_key(*flow)) for flow in limited]
        for set_name, key in keys:
            # Added first, so that deleting one that is not there can't fail the others; nobody sees it in between.
            requests += [_element(_NEWSETELEM, set_name, key, 1.0), _element(_DELSETELEM, set_name, key)]
        self._commit(requests, "closing " + ", ".join(devices))

    def lay_rules(self, rules: ChainRules) -> None:
        """Replace the rules of a device's chain, which has to be there."""
        name = chain_name(rules.device)
        requests = [nft.request(_DELRULE, 0, text(1, TABLE), text(2, name)), *_rule_requests(name, rules)]
        self._commit(requests, f"restricting {rules.device}")

    def let(self, device: str, lease_s: float | None) -> None:
        """Put a device into `tx_ok` for that long, or for longer if it is there already."""
        self._commit(_renewed(SET, element_key(device), lease_s), f"opening {device}")

    def let_marked(self, device: str, mark: int, quota_bytes: int, window_s: float) -> None:
        """Let frames with this mark out until the window or the quota is over, whichever comes first."""
        requests = _renewed(MARKED_SET, element_key(device, mark), window_s, quota_bytes)
        self._commit(requests, f"breaking the silence of {device}")

    def let_limited(self, device: str, marks: Sequence[int], lease_s: float) -> None:
        """Let frames with these marks out for that long, within the limits of the chain."""
        requests = [each for mark in marks for each in _renewed(LIMITED_SET, element_key(device, mark), lease_s)]
        self._commit(requests, f"letting marked frames out of {device}")

    def forget(self, device: str) -> None:
        """Remove the chain of one device: frames leave it as if there were no gate."""
        self._commit([nft.request(_DELCHAIN, 0, text(1, TABLE), text(3, chain_name(device)))], f"freeing {device}")

    def delete(self) -> None:
        """Remove the table, if it is there."""
        self._commit([_table(_NEWTABLE, NLM_F_CREATE), _table(_DELTABLE)], "removing table netdev meshd")

    def leases(self) -> dict[str, float | None]:
        """Devices that may send now, and for how long."""
        return {as_text(key): left_s for key, left_s in self._elements(SET)}

    def _elements(self, set_name: str) -> list[tuple[bytes, float | None]]:
        """Keys of a set, and the seconds left."""
        body = nft.header(NFPROTO_NETDEV) + text(1, TABLE) + text(2, set_name)
        found: list[tuple[bytes, float | None]] = []
        for answer in self._get(_GETSETELEM, NLM_F_DUMP, body, f"reading set {set_name}"):
            for _, element in attribute_list(attributes(answer.body[4:]).get(3, b"")):
                parts = attributes(element)
                expiration = parts.get(5)
                left_s = None if expiration is None else struct.unpack(">Q", expiration)[0] / 1000
                found.append((attributes(parts.get(1, b"")).get(1, b""), left_s))
        return found

    def state(self) -> TableState:
        """Read everything back for verification. A table that is not there has no chains."""
        try:
            chains = {device: self._chain(name, device) for name, device in self._drop_chains().items()}
            leases = self.leases()
        except NetlinkError as exc:
            if exc.errno == errno.ENOENT:
                return TableState({}, {})
            raise
        try:
            return TableState(chains, leases, frozenset(_flow(key) for key, _ in self._elements(LIMITED_SET)))
        except NetlinkError as exc:
            if exc.errno == errno.ENOENT:
                return TableState(chains, leases)  # the boot unit's table has no such set
            raise

    def _drop_chains(self) -> dict[str, str]:
        """Our base chains with policy drop on an egress hook: chain name to device."""
        found: dict[str, str] = {}
        for answer in self._get(_GETCHAIN, NLM_F_DUMP, nft.header(NFPROTO_NETDEV), "reading chains"):
            parts = attributes(answer.body[4:])
            hook = attributes(parts.get(4, b""))
            if as_text(parts.get(1)) != TABLE or hook.get(1) != struct.pack(">I", _NETDEV_EGRESS):
                continue
            if parts.get(5) != struct.pack(">I", nft.DROP):
                continue
            device = as_text(hook[2]) if 2 in hook else ""
            for _, name in attribute_list(hook.get(4, b"")):
                device = as_text(name)
            found[as_text(parts.get(3))] = device
        return {name: device for name, device in found.items() if name == chain_name(device)}

    def _chain(self, name: str, device: str) -> ChainState:
        body = nft.header(NFPROTO_NETDEV) + text(1, TABLE) + text(2, name)
        listed = self._get(_GETRULE, NLM_F_DUMP, body, f"reading chain {name}")
        return read_rules(device, [nft.read_expressions(answer) for answer in listed])

    def _get(self, kind: int, flags: int, body: bytes, doing: str) -> list[netlink.Message]:
        return self._socket.dump(SUBSYSTEM_NFTABLES << 8 | kind, body, doing, flags)

    def probe(self) -> None:
        """Ask the kernel whether it could lay such a table. Nothing is changed: a batch without an end is dropped.

        Errors: NetlinkError with what it lacks.
        """
        limits = GateLimits((1,), 1, 1, 1)
        requests = [*_new_table(), *_chain_requests(ChainRules("lo", limits)), *_renewed(SET, element_key("lo"), 1.0)]
        requests += _renewed(MARKED_SET, element_key("lo", 1), 1.0, quota_bytes=1)
        self._commit(requests, "probing for an nftables egress hook", is_trial=True)

    def _commit(self, requests: Sequence[bytes], doing: str, is_trial: bool = False) -> None:
        """One batch: the last request asks for the acknowledgement that stands for all of them."""
        last = len(requests)
        datagram = [netlink.message(_BATCH_BEGIN, 0, nft.header(0, SUBSYSTEM_NFTABLES), 0)]
        for number, request in enumerate(requests, 1):
            kind, flags = struct.unpack_from("=HH", request)
            flags |= NLM_F_ACK if number == last else 0
            datagram.append(netlink.message(SUBSYSTEM_NFTABLES << 8 | kind, flags, request[4:], number))
        if not is_trial:
            datagram.append(netlink.message(_BATCH_END, 0, nft.header(0, SUBSYSTEM_NFTABLES), last + 1))
        self._socket.transact(b"".join(datagram), last, doing)


def _table(kind: int, flags: int = 0) -> bytes:
    return nft.request(kind, flags, text(1, TABLE))


def _new_table() -> list[bytes]:
    """In the place of the one that is there, if any: the table and its sets, empty."""
    return [
        _table(_NEWTABLE, NLM_F_CREATE),
        _table(_DELTABLE),
        _table(_NEWTABLE, NLM_F_CREATE),
        _new_set(SET, 1, _NFT_TYPE_IFNAME, _IFNAME_BYTES),
        _new_set(MARKED_SET, 2, _NFT_TYPE_IFNAME_MARK, _IFNAME_BYTES + 4),
        _new_set(LIMITED_SET, 3, _NFT_TYPE_IFNAME_MARK, _IFNAME_BYTES + 4),
    ]


def _new_set(name: str, number: int, key_type: int, key_bytes: int) -> bytes:
    return nft.request(
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


def _renewed(set_name: str, key: bytes, left_s: float | None, quota_bytes: int | None = None) -> list[bytes]:
    """An element, there for so long from now on."""
    # Before Linux 6.12 adding an element that exists leaves its timeout alone: add, delete, add.
    added = _element(_NEWSETELEM, set_name, key, left_s, quota_bytes)
    return [added, _element(_DELSETELEM, set_name, key), added]


def _element(
    kind: int, set_name: str, key: bytes, left_s: float | None = None, quota_bytes: int | None = None
) -> bytes:
    parts = [nested(1, attribute(1, key))]
    if left_s is not None:
        parts.append(attribute(4, struct.pack(">Q", max(1, round(left_s * 1000)))))
    if quota_bytes is not None:
        quota = nested(2, attribute(1, struct.pack(">Q", quota_bytes)), be32(2, 0))
        parts.append(nested(7, text(1, "quota"), quota))
    flags = NLM_F_CREATE if kind == _NEWSETELEM else 0
    return nft.request(kind, flags, text(1, TABLE), text(2, set_name), nested(3, nested(1, *parts)))


def _flow(key: bytes) -> Flow:
    return as_text(key), struct.unpack_from("=I", key.ljust(_IFNAME_BYTES + 4, b"\0"), _IFNAME_BYTES)[0]


def _chain_requests(rules: ChainRules) -> list[bytes]:
    """The base chain of one device and its rules."""
    name = chain_name(rules.device)
    hook = nested(4, be32(1, _NETDEV_EGRESS), be32(2, 0), text(3, rules.device))
    parts = (text(1, TABLE), text(3, name), hook, be32(5, nft.DROP), text(7, "filter"))
    return [nft.request(_NEWCHAIN, NLM_F_CREATE, *parts), *_rule_requests(name, rules)]


def _rule_requests(chain: str, rules: ChainRules) -> list[bytes]:
    flags = NLM_F_CREATE | NLM_F_APPEND
    return [
        nft.request(_NEWRULE, flags, text(1, TABLE), text(2, chain), nested(4, expressions))
        for expressions in rules_of(rules)
    ]
