# SPDX-License-Identifier: Apache-2.0
"""What meshd says and understands of DNS-SD (RFC 6763) over multicast DNS (RFC 6762): `_meshd._tcp`.

An instance has the hash of its node ID as its name, and the node ID in its text record. It is a hint where somebody
listens and no more: anybody can say anything, and who answers there has to prove who it is. The records and their codec
are those of the package zeroconf, which is loaded when this is first used; its sockets and threads are not.
"""

import hashlib
import importlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshd.base.errors import MeshdError, RemoteProtocolError
from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError

SERVICE: Final = "_meshd._tcp.local."
PACKET_MAX_BYTES: Final = 9000
"""RFC 6762 section 17."""
RECORDS_MAX: Final = 64
"""In one packet that is looked at; others are somebody else's."""
HINTS_MAX: Final = 8
"""Of one packet."""

_QUERY: Final = 0x0000
_ANSWER: Final = 0x8400
"""Flags: an authoritative response (RFC 6762 section 18)."""
_POINTER: Final = 12
_INTERNET: Final = 1
_KEY: Final = b"node="
_LABEL_DIGITS: Final = 16


class MdnsMissingError(MeshdError):
    """The package zeroconf is not there."""


class MdnsError(RemoteProtocolError):
    """No packet that means anything to us; it is dropped."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A node may be listening there."""

    node: Eid
    address: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What a packet says."""

    is_asking: bool
    """Somebody looks for nodes."""
    hints: tuple[Hint, ...] = ()


def load_zeroconf() -> Any:
    """The package. Errors: MdnsMissingError."""
    try:
        return importlib.import_module("zeroconf")
    except ImportError as error:
        raise MdnsMissingError("mDNS needs the package zeroconf: install meshd[mdns], or remove mdns") from error


def make_query() -> bytes:
    """Who is there? Errors: MdnsMissingError."""
    zeroconf = load_zeroconf()
    query = zeroconf.DNSOutgoing(_QUERY)
    query.add_question(zeroconf.DNSQuestion(SERVICE, _POINTER, _INTERNET))
    return bytes(query.packets()[0])


def make_answer(node: Eid, port: int, host: str) -> bytes:
    """We are there, at this IPv4 address. Errors: MdnsMissingError."""
    zeroconf = load_zeroconf()
    label = hashlib.sha256(node.uri.encode()).hexdigest()[:_LABEL_DIGITS]
    info = zeroconf.ServiceInfo(
        SERVICE,
        f"{label}.{SERVICE}",
        port=port,
        addresses=[ipaddress.IPv4Address(host).packed],
        properties={b"node": node.uri.encode()},
        server=f"{label}.local.",
    )
    answer = zeroconf.DNSOutgoing(_ANSWER)
    for record in (info.dns_pointer(), info.dns_service(), info.dns_text(), *info.dns_addresses()):
        answer.add_answer_at_time(record, 0)
    return bytes(answer.packets()[0])


def read_packet_untrusted(data: bytes) -> Heard:
    """What a packet means to us.

    Errors: MdnsError: it is damaged, too large, or not about this service; MdnsMissingError.
    """
    zeroconf = load_zeroconf()
    if not 0 < len(data) <= PACKET_MAX_BYTES:
        raise MdnsError(f"a packet has {len(data)} bytes: 1 to {PACKET_MAX_BYTES} are possible")
    packet = zeroconf.DNSIncoming(data)
    count = packet.num_answers + packet.num_authorities + packet.num_additionals + packet.num_questions
    if count > RECORDS_MAX:
        raise MdnsError(f"a packet has {count} records: {RECORDS_MAX} are looked at")
    if packet.is_query():
        if not any(str(question.name).lower() == SERVICE for question in packet.questions):
            raise MdnsError("a query is for something else")
        return Heard(is_asking=True)
    records = packet.answers()
    if not packet.valid:
        raise MdnsError("a packet can't be read")
    return Heard(is_asking=False, hints=_find_hints(zeroconf, records))


def _find_hints(zeroconf: Any, records: Sequence[Any]) -> tuple[Hint, ...]:
    """Of instances that the packet tells everything of: port, node and addresses; one that says goodbye is none."""
    texts = _by_name(record for record in records if isinstance(record, zeroconf.DNSText))
    hosts = _by_name(record for record in records if isinstance(record, zeroconf.DNSAddress))
    hints: dict[Hint, None] = {}
    for service in records:
        if not isinstance(service, zeroconf.DNSService) or not service.ttl or not 0 < service.port <= 65535:
            continue
        name = str(service.name).lower()
        text, host = texts.get(name), hosts.get(str(service.server).lower())
        node = _read_node(bytes(text.text)) if text is not None and name.endswith(f".{SERVICE}") else None
        if node is not None and host is not None and len(host.address) == 4:
            hints[Hint(node, f"{ipaddress.IPv4Address(bytes(host.address))}:{service.port}")] = None
    return tuple(hints)[:HINTS_MAX]


def _by_name(records: Iterable[Any]) -> dict[str, Any]:
    return {str(record.name).lower(): record for record in records}


def _read_node(text: bytes) -> Eid | None:
    """The first string of a text record that names a node."""
    pos = 0
    while pos < len(text):
        entry = text[pos + 1 : pos + 1 + text[pos]]
        pos += 1 + text[pos]
        if entry.startswith(_KEY):
            try:
                return check_node_id(parse_eid(entry[len(_KEY) :].decode("ascii")))
            except (EidError, UnicodeDecodeError):
                return None
    return None
