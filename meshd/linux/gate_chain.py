# SPDX-License-Identifier: Apache-2.0
"""The rules of one device's chain in the table of the emission gate: as they are laid, and as the kernel lists them.

In nft's words, where `[...]` is there only as far as it is wanted:

    oifname @tx_ok accept
    oifname . mark @tx_marked counter accept
    [oifname . mark @tx_limited [limit rate R bytes/second burst B bytes] [quota Q bytes used U] counter accept]
    [ether daddr MAC ether type ip ip daddr ADDRESS counter accept]
    counter drop
"""

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

from meshd.emcon.gate import GateLimits
from meshd.link.settings import Station
from meshd.linux import nft_message as nft
from meshd.linux.netlink import as_text, attributes

SET: Final = "tx_ok"
MARKED_SET: Final = "tx_marked"
LIMITED_SET: Final = "tx_limited"

_ETHERTYPES: Final = {4: b"\x08\x00", 6: b"\x86\xdd"}
_ETHERTYPE_OFFSET: Final = 12
_DESTINATION: Final = {4: (16, 4), 6: (24, 16)}
"""Offset and size of the destination's address, by version of IP."""
_LEASED: Final = ["meta", "lookup", "immediate"]
_MARKED: Final = ["meta", "meta", "lookup", "counter", "immediate"]
_EXCEPTED: Final = ["payload", "cmp", "payload", "cmp", "payload", "cmp", "counter", "immediate"]
_LAST: Final = ["counter", "immediate"]


@dataclass(frozen=True, slots=True)
class ChainRules:
    """What one chain is to let out besides what has a lease."""

    device: str
    limits: GateLimits | None = None
    """For marks that are put into `tx_limited`."""
    used_bytes: int = 0
    """Of the quota."""
    exceptions: tuple[Station, ...] = ()


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
    limited: tuple[int, int, int] | None = None
    """Rate and burst in bytes (0: none), and the quota in bytes (0: none), of a restricted device."""
    used_bytes: int = 0
    exceptions: tuple[Station, ...] = ()
    excepted_frames: int = 0

    def is_as(self, wanted: ChainRules) -> bool:
        """Whether the rules let out neither more nor less."""
        return self.is_drop and self.exceptions == wanted.exceptions and self.limited == _as_laid(wanted.limits)


def rules_of(wanted: ChainRules) -> list[bytes]:
    """The expressions of each rule, in order."""
    rules = [
        nft.load_meta(nft.META_OIFNAME, nft.REGISTER_1) + nft.is_in(SET) + nft.verdict(nft.ACCEPT),
        _marked(MARKED_SET),
    ]
    if wanted.limits is not None:
        rules.append(_marked(LIMITED_SET, _bounds(wanted.limits, wanted.used_bytes)))
    rules += [_excepted(each) for each in wanted.exceptions]
    return [*rules, nft.counter() + nft.verdict(nft.DROP)]


def read_rules(device: str, rules: list[nft.Expressions]) -> ChainState:
    """What a listed chain is; not `is_drop` where it is not one of ours."""
    names = [[name for name, _ in rule] for rule in rules]
    not_ours = ChainState(device, is_drop=False, dropped_frames=0)
    if len(rules) < 2 or names[0] != _LEASED or names[-1] != _LAST:
        return not_ours
    frames, size_bytes, limited, used_bytes, excepted_frames = 0, 0, None, 0, 0
    exceptions: list[Station] = []
    for rule, kinds in zip(rules[1:-1], names[1:-1], strict=True):
        parts = dict(rule)
        counted = parts.get("counter", {})
        set_name = as_text(parts.get("lookup", {}).get(1))
        if kinds == _MARKED and set_name == MARKED_SET:
            frames, size_bytes = nft.number(counted, 2), nft.number(counted, 1)
        elif set_name == LIMITED_SET and [each for each in kinds if each not in ("limit", "quota")] == _MARKED:
            bound, quota = parts.get("limit", {}), parts.get("quota", {})
            limited = nft.number(bound, 1), nft.number(bound, 3), nft.number(quota, 1)
            used_bytes = nft.number(quota, 4)
        elif kinds == _EXCEPTED:
            exceptions.append(_read_exception(rule))
            excepted_frames += nft.number(counted, 2)
        else:
            return not_ours
    dropped_frames = nft.number(dict(rules[-1])["counter"], 2)
    return ChainState(
        device, True, dropped_frames, frames, size_bytes, limited, used_bytes, tuple(exceptions), excepted_frames
    )


def element_key(device: str, mark: int | None = None) -> bytes:
    """Of a set: the device's name, and a mark."""
    return device.encode().ljust(16, b"\0") + (b"" if mark is None else struct.pack("=I", mark))


def _marked(set_name: str, bounds: bytes = b"") -> bytes:
    key = nft.load_meta(nft.META_OIFNAME, nft.REGISTER_1) + nft.load_meta(nft.META_MARK, nft.REGISTER_2)
    return key + nft.is_in(set_name) + bounds + nft.counter() + nft.verdict(nft.ACCEPT)


def _bounds(limits: GateLimits, used_bytes: int) -> bytes:
    """What exceeds the rate is dropped before it counts against the quota."""
    bounds = b""
    if limits.rate_bytes_per_s is not None:
        bounds += nft.limit(limits.rate_bytes_per_s, limits.burst_bytes)
    if limits.quota_bytes_per_h is not None:
        bounds += nft.quota(limits.quota_bytes_per_h, used_bytes)
    return bounds


def _as_laid(limits: GateLimits | None) -> tuple[int, int, int] | None:
    if limits is None:
        return None
    burst_bytes = 0 if limits.rate_bytes_per_s is None else limits.burst_bytes
    return limits.rate_bytes_per_s or 0, burst_bytes, limits.quota_bytes_per_h or 0


def _excepted(exception: Station) -> bytes:
    address = ipaddress.ip_address(exception.address)
    offset, size_bytes = _DESTINATION[address.version]
    return (
        nft.load_payload(nft.LINK_HEADER, 0, 6)
        + nft.equals(bytes.fromhex(exception.mac.replace(":", "")))
        + nft.load_payload(nft.LINK_HEADER, _ETHERTYPE_OFFSET, 2)
        + nft.equals(_ETHERTYPES[address.version])
        + nft.load_payload(nft.NETWORK_HEADER, offset, size_bytes)
        + nft.equals(address.packed)
        + nft.counter()
        + nft.verdict(nft.ACCEPT)
    )


def _read_exception(rule: nft.Expressions) -> Station:
    mac, _, address = (attributes(parts.get(3, b"")).get(1, b"") for name, parts in rule if name == "cmp")
    shown = str(ipaddress.ip_address(address)) if len(address) in (4, 16) else address.hex()
    return Station(mac.hex(":"), shown)
