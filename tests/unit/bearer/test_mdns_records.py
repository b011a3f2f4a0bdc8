# SPDX-License-Identifier: Apache-2.0
"""Packets of multicast DNS: what is said of a node is understood, and nothing else is."""

import contextlib
import random
from typing import Any

import pytest

from meshd.bearer.mdns_records import (
    HINTS_MAX,
    PACKET_MAX_BYTES,
    RECORDS_MAX,
    Heard,
    Hint,
    MdnsError,
    make_answer,
    make_query,
    read_packet_untrusted,
)
from tests.unit.bearer.tcp_peers import ALPHA

zeroconf = pytest.importorskip("zeroconf")

ANSWER_FLAGS = 0x8400


def answer_of(*infos: Any) -> bytes:
    packet = zeroconf.DNSOutgoing(ANSWER_FLAGS)
    for info in infos:
        for record in (info.dns_pointer(), info.dns_service(), info.dns_text(), *info.dns_addresses()):
            packet.add_answer_at_time(record, 0)
    return bytes(packet.packets()[0])


def info_of(node: bytes, label: str = "a", service: str = "_meshd._tcp.local.", **changes: Any) -> Any:
    values: dict[str, Any] = {
        "port": 4556,
        "addresses": [bytes((10, 0, 0, 1))],
        "properties": {b"node": node},
        "server": "a.local.",
    }
    return zeroconf.ServiceInfo(service, f"{label}.{service}", **(values | changes))


def test_what_is_announced_is_understood() -> None:
    assert read_packet_untrusted(make_answer(ALPHA, 4556, "10.0.0.1")) == Heard(False, (Hint(ALPHA, "10.0.0.1:4556"),))
    assert read_packet_untrusted(make_query()) == Heard(is_asking=True)


def test_the_stock_records_of_another_implementation_are_understood() -> None:
    data = answer_of(info_of(b"dtn://alpha/"))
    assert read_packet_untrusted(data).hints == (Hint(ALPHA, "10.0.0.1:4556"),)


@pytest.mark.parametrize(
    "info",
    [
        {"node": b"nonsense"},
        {"node": b"dtn://alpha/with/path"},
        {"node": b"\xff\xfe"},
        {"node": b"dtn://alpha/", "service": "_http._tcp.local."},
        {"node": b"dtn://alpha/", "port": 0},
        {"node": b"dtn://alpha/", "properties": {b"else": b"dtn://alpha/"}},
        {"node": b"dtn://alpha/", "addresses": [bytes(15) + b"\1"]},
        {"node": b"dtn://alpha/", "other_ttl": 0, "host_ttl": 0},
    ],
    ids=["no node", "no node ID", "no text", "other service", "no port", "other text", "IPv6", "goodbye"],
)
def test_what_names_no_node_and_place_is_no_hint(info: dict[str, Any]) -> None:
    assert read_packet_untrusted(answer_of(info_of(**info))).hints == ()


def test_only_so_many_hints_and_records_are_taken() -> None:
    infos = [
        info_of(b"dtn://n%d/" % number, f"n{number}", server=f"n{number}.local.", addresses=[bytes((10, 0, 0, number))])
        for number in range(HINTS_MAX + 3)
    ]
    assert len(read_packet_untrusted(answer_of(*infos)).hints) == HINTS_MAX
    many = zeroconf.DNSOutgoing(ANSWER_FLAGS)
    for number in range(RECORDS_MAX + 1):
        many.add_answer_at_time(zeroconf.DNSPointer("x.local.", 12, 1, 60, f"n{number}.x.local."), 0)
    with pytest.raises(MdnsError, match="65 records"):
        read_packet_untrusted(bytes(many.packets()[0]))


def test_a_query_for_something_else_is_not_ours() -> None:
    query = zeroconf.DNSOutgoing(0)
    query.add_question(zeroconf.DNSQuestion("_http._tcp.local.", 12, 1))
    with pytest.raises(MdnsError, match="something else"):
        read_packet_untrusted(bytes(query.packets()[0]))


@pytest.mark.parametrize("size", [0, PACKET_MAX_BYTES + 1])
def test_packets_of_no_size_are_refused(size: int) -> None:
    with pytest.raises(MdnsError):
        read_packet_untrusted(bytes(size))


def test_damaged_packets_are_refused_or_mean_something_else() -> None:
    rng = random.Random(4)
    data = make_answer(ALPHA, 4556, "10.0.0.1")
    for _ in range(3000):
        bad = bytearray(data[: rng.randrange(1, len(data) + 1)])
        for _ in range(rng.randrange(3)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        with contextlib.suppress(MdnsError):
            assert len(read_packet_untrusted(bytes(bad)).hints) <= HINTS_MAX
