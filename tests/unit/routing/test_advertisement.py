# SPDX-License-Identifier: Apache-2.0
"""What an advertisement says: there and back, as contacts, within its limits, and what is none."""

import msgspec
import pytest

from meshd.bundle.eid import parse_eid
from meshd.link.settings import BearerKind
from meshd.routing.advertisement import (
    LINKS_MAX,
    PLANNED_MAX,
    VALID_MAX_S,
    Advertisement,
    LinkNews,
    contacts_of,
    decode_body_untrusted,
    encode_body,
)
from meshd.routing.contact import Contact, ContactKind
from meshd.security.advertisement import BODY_MAX_BYTES, AdvertisementError

NODE = parse_eid("dtn://dpop1/")
HOME = parse_eid("dtn://home/")
DPOP2 = parse_eid("ipn:2.0")
ISSUED_S = 820_000_000
LIVE = LinkNews(DPOP2, BearerKind.LOS, True, 64_000, 0.02, 0.05, 0.9)
LATER = LinkNews(HOME, BearerKind.SATCOM, True, 2_000_000, 0.3, 0.0, 1.0, 600)
PLANNED = Contact(NODE, HOME, "", ISSUED_S + 60.25, ISSUED_S + 660.5, 1000, 0.25, 0.01, 0.8, True)
SAID = Advertisement(ISSUED_S, 3900, (LIVE, LATER), (PLANNED,))


def test_there_and_back() -> None:
    assert decode_body_untrusted(encode_body(SAID), NODE) == SAID


def test_as_contacts_of_its_sender_alone() -> None:
    live, later, planned = contacts_of(NODE, SAID, ISSUED_S + 5.0)
    assert (live.sender, live.receiver, live.kind, live.confidence) == (NODE, DPOP2, ContactKind.LIVE, 0.9)
    assert (live.start_s, live.end_s) == (ISSUED_S, ISSUED_S + 3900)
    assert (later.start_s, later.kind) == (ISSUED_S + 600, ContactKind.SCHEDULED)
    assert planned == PLANNED


def test_of_a_node_without_a_clock_only_links_count_and_from_now_on() -> None:
    said = Advertisement(0, 3900, (LIVE,), ())
    (live,) = contacts_of(NODE, decode_body_untrusted(encode_body(said), NODE), 820_000_005.0)
    assert (live.start_s, live.end_s) == (820_000_005.0, 820_003_905.0)


def test_what_is_too_much_is_left_out() -> None:
    nodes = [parse_eid(f"dtn://{'n' * 200}{number}/") for number in range(2 * LINKS_MAX)]
    links = tuple(msgspec.structs.replace(LIVE, neighbour=node) for node in nodes)
    planned = tuple(msgspec.structs.replace(PLANNED, receiver=node) for node in nodes)
    body = encode_body(Advertisement(ISSUED_S, 3900, links, planned))
    assert len(body) <= BODY_MAX_BYTES
    said = decode_body_untrusted(body, NODE)
    assert said.links == links[: len(said.links)]
    assert 30 < len(said.links) <= LINKS_MAX
    assert len(said.planned) <= PLANNED_MAX


def test_six_links_fit_one_frame() -> None:
    links = tuple(msgspec.structs.replace(LIVE, neighbour=parse_eid(f"dtn://dpop{number}/")) for number in range(6))
    assert len(encode_body(Advertisement(ISSUED_S, 3900, links))) < 200


def test_impossible_figures_are_written_as_possible_ones() -> None:
    wild = LinkNews(HOME, BearerKind.LOS, True, 10**15, 1e9, 1.0, 2.0, 1e9)
    endless = msgspec.structs.replace(PLANNED, start_s=0.0, end_s=float("inf"), rate_bps=0)
    said = decode_body_untrusted(encode_body(Advertisement(ISSUED_S, 3900, (wild,), (endless,))), NODE)
    assert said.links[0].loss == 0.99
    assert (said.planned[0].start_s, said.planned[0].end_s) == (ISSUED_S, ISSUED_S + VALID_MAX_S)


def body(**changes: object) -> bytes:
    items: dict[str, object] = {
        "issued_s": ISSUED_S,
        "valid_s": 3900,
        "nodes": ["dtn://home/"],
        "links": [[0, 6, 64000, 20, 5, 90, 0]],
        "planned": [],
    }
    return msgspec.msgpack.encode(list((items | changes).values()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        body(valid_s=VALID_MAX_S + 1),
        body(issued_s=-1),
        body(nodes=["dtn://home/inbox"]),
        body(nodes=["no node"]),
        body(nodes=["dtn://dpop1/"]),
        body(nodes=["dtn://home/", "dtn://home/"]),
        body(nodes=[]),
        body(links=[[1, 6, 64000, 20, 5, 90, 0]]),
        body(links=[[0, 3, 64000, 20, 5, 90, 0]]),
        body(links=[[0, 7, 64000, 20, 5, 90, 0]]),
        body(links=[[0, 6, 0, 20, 5, 90, 0]]),
        body(links=[[0, 6, 64000, 20, 100, 90, 0]]),
        body(links=[[0, 6, 64000, 20, 5, 90]]),
        body(links=[[0, 6, 64000.5, 20, 5, 90, 0]]),
        body(links=[[0, 6, 64000, 20, 5, 90, 0]] * (LINKS_MAX + 1)),
        body(planned=[[0, 0, 0, VALID_MAX_S * 1000 + 1, 1, 0, 0, 0]]),
        body(extra=0),
    ],
)
def test_others_are_refused(data: bytes) -> None:
    with pytest.raises(AdvertisementError, match="dtn://dpop1/"):
        decode_body_untrusted(data, NODE)


def test_the_sample_of_refusals_is_good_itself() -> None:
    assert decode_body_untrusted(body(), NODE).links[0].neighbour == HOME
