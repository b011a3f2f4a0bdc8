# SPDX-License-Identifier: Apache-2.0
"""What a topology advertisement says (DESIGN sections 3 and 6): a node's links and contacts to come, outbound only.

msgpack arrays of whole numbers; a node ID is written once and named by its place in a list:

    [issued_s, valid_s, [NODE, ...], [LINK, ...], [PLANNED, ...], [LIKELY, ...], PLAN or nil]
    LINK    [node, bearer, rate_bps, owd_ms, loss_pct, availability_pct, begins_s]
    PLANNED [node, bearer, begins_ms, lasts_ms, rate_bps, owd_ms, loss_pct, confidence_pct]
    LIKELY  [node, predictability_pct]

issued_s is DTN time in seconds, 0 where the node has no clock; `begins` counts from there. `bearer` is the kind
(0 terrestrial, 1 SATCOM, 2 LOS), plus 4 when it radiates; of a planned contact it is 4 when it radiates, plus 8 when no
plan says so but history. LIKELY is whom the node is likely to meet (RFC 6693), PLAN when it will be silent by its plan
of emission control (`silence_plan`). A link that begins later is one on a
bearer that is silent until then: so a node announces the end of its silence. A node speaks of what it sends itself and
of nothing else: its neighbours say what they send to it. Signature and numbering are the matter of
`security/advertisement.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError
from meshd.link.settings import BearerKind
from meshd.routing.contact import Contact, ContactKind
from meshd.routing.silence_plan import SilencePlan
from meshd.security.advertisement import BODY_MAX_BYTES, AdvertisementError

TOPOLOGY_ENDPOINT: Final = Eid("dtn://meshd/~topology")

LINKS_MAX: Final = 64
"""A node with more neighbours tells of those that carry most."""
PLANNED_MAX: Final = 64
"""The next ones."""
LIKELY_MAX: Final = 32
"""The likeliest."""
NODES_MAX: Final = LINKS_MAX + PLANNED_MAX + LIKELY_MAX
VALID_MAX_S: Final = 8 * 86400
"""No advertisement, and nothing in it, reaches further ahead."""
RATE_MAX_BPS: Final = 10**12
OWD_MAX_MS: Final = 3_600_000

_KINDS: Final = (BearerKind.TERRESTRIAL, BearerKind.SATCOM, BearerKind.LOS)
_RADIATES: Final = 4
_PREDICTED: Final = 8

_Node = Annotated[int, msgspec.Meta(ge=0, lt=NODES_MAX)]
_Bearer = Annotated[int, msgspec.Meta(ge=0, lt=2 * _RADIATES)]
_Origin = Annotated[int, msgspec.Meta(ge=0, lt=2 * _PREDICTED)]
_Rate = Annotated[int, msgspec.Meta(ge=1, le=RATE_MAX_BPS)]
_Owd = Annotated[int, msgspec.Meta(ge=0, le=OWD_MAX_MS)]
_Loss = Annotated[int, msgspec.Meta(ge=0, le=99)]
_Share = Annotated[int, msgspec.Meta(ge=0, le=100)]
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=VALID_MAX_S)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=VALID_MAX_S * 1000)]
_DtnSeconds = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]


class _LinkRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    node: _Node
    bearer: _Bearer
    rate_bps: _Rate
    owd_ms: _Owd
    loss_pct: _Loss
    availability_pct: _Share
    begins_s: _Seconds


class _PlannedRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    node: _Node
    bearer: _Origin
    begins_ms: _Milliseconds
    lasts_ms: _Milliseconds
    rate_bps: _Rate
    owd_ms: _Owd
    loss_pct: _Loss
    confidence_pct: _Share


class _LikelyRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    node: _Node
    predictability_pct: _Share


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    issued_s: _DtnSeconds
    valid_s: _Seconds
    nodes: Annotated[list[str], msgspec.Meta(max_length=NODES_MAX)]
    links: Annotated[list[_LinkRow], msgspec.Meta(max_length=LINKS_MAX)]
    planned: Annotated[list[_PlannedRow], msgspec.Meta(max_length=PLANNED_MAX)]
    likely: Annotated[list[_LikelyRow], msgspec.Meta(max_length=LIKELY_MAX)] = []
    """Nodes before this list was known leave it out."""
    plan: SilencePlan | None = None


_DECODER: Final = msgspec.msgpack.Decoder(_Body)


class LinkNews(msgspec.Struct, frozen=True, gc=False):
    """One link of the node that speaks."""

    neighbour: Eid
    kind: BearerKind
    radiates: bool
    rate_bps: int
    owd_s: float
    loss: float = 0.0
    availability: float = 1.0
    begins_s: float = 0.0
    """Seconds until it may carry something again; 0: it does now."""


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a node says of itself."""

    issued_s: int
    """DTN time in seconds; 0: it has no clock."""
    valid_s: int
    links: tuple[LinkNews, ...]
    planned: tuple[Contact, ...] = ()
    """Of its plan, and of what its history lets expect, those that it sends in; none begins before it was issued."""
    likely: tuple[tuple[Eid, float], ...] = ()
    """Nodes and the predictability with which it meets them, likeliest first."""
    plan: SilencePlan | None = None
    """Of emission control; None: it has none, or no clock."""


def encode_body(said: Advertisement) -> bytes:
    """Its bytes: what is too much is left out, the end of each list first."""
    links, planned, likely = list(said.links[:LINKS_MAX]), list(said.planned[:PLANNED_MAX]), list(said.likely)
    del likely[LIKELY_MAX:]
    while len(data := _pack(said, links, planned, likely)) > BODY_MAX_BYTES:
        if likely:
            likely.pop()
        else:
            (planned or links).pop()
    return data


def _pack(
    said: Advertisement, links: Sequence[LinkNews], planned: Sequence[Contact], likely: Sequence[tuple[Eid, float]]
) -> bytes:
    places: dict[Eid, int] = {}
    receivers = (contact.receiver for contact in planned)
    for node in (*(link.neighbour for link in links), *receivers, *(node for node, _ in likely)):
        places.setdefault(node, len(places))
    rows = [_link_row(places[link.neighbour], link) for link in links]
    planned_rows = [_planned_row(places[contact.receiver], contact, said.issued_s) for contact in planned]
    likely_rows = [_LikelyRow(places[node], _within(value * 100, 0, 100)) for node, value in likely]
    names = [node.uri for node in places]
    return msgspec.msgpack.encode(_Body(said.issued_s, said.valid_s, names, rows, planned_rows, likely_rows, said.plan))


def _link_row(place: int, link: LinkNews) -> _LinkRow:
    return _LinkRow(
        place,
        _KINDS.index(link.kind) + _RADIATES * link.radiates,
        _within(link.rate_bps, 1, RATE_MAX_BPS),
        _within(link.owd_s * 1000, 0, OWD_MAX_MS),
        _within(link.loss * 100, 0, 99),
        _within(link.availability * 100, 0, 100),
        _within(link.begins_s, 0, VALID_MAX_S),
    )


def _planned_row(place: int, contact: Contact, issued_s: int) -> _PlannedRow:
    begins_s = max(0.0, contact.start_s - issued_s)
    return _PlannedRow(
        place,
        _RADIATES * contact.radiates + _PREDICTED * (contact.kind is ContactKind.PREDICTED),
        _within(begins_s * 1000, 0, VALID_MAX_S * 1000),
        _within(min(contact.end_s - issued_s - begins_s, VALID_MAX_S) * 1000, 0, VALID_MAX_S * 1000),
        _within(contact.rate_bps, 1, RATE_MAX_BPS),
        _within(contact.owd_s * 1000, 0, OWD_MAX_MS),
        _within(contact.loss * 100, 0, 99),
        _within(contact.confidence * 100, 0, 100),
    )


def _within(value: float, least: int, most: int) -> int:
    return min(max(round(value), least), most)


def decode_body_untrusted(data: bytes, node: Eid) -> Advertisement:
    """What `node` says of itself. Errors: AdvertisementError."""
    try:
        body = _DECODER.decode(data)
        nodes = [check_node_id(parse_eid(text)) for text in body.nodes]
    except (msgspec.DecodeError, UnicodeDecodeError, EidError) as error:
        raise AdvertisementError(f"what {node.uri} says can't be read: {error}") from error
    places = len(nodes)
    named = [(row.node, row.bearer) for row in body.links] + [(row.node, row.bearer) for row in body.planned]
    named += [(row.node, 0) for row in body.likely]
    if any(node_place >= places or bearer % _RADIATES >= len(_KINDS) for node_place, bearer in named):
        raise AdvertisementError(f"what {node.uri} says names a node or a kind of bearer that it does not list")
    if node in nodes or len(set(nodes)) != places:
        raise AdvertisementError(f"{node.uri} names itself as its neighbour, or a node twice")
    links = tuple(_news(row, nodes) for row in body.links)
    planned = tuple(_planned(row, node, nodes, body.issued_s) for row in body.planned)
    likely = tuple((nodes[row.node], row.predictability_pct / 100) for row in body.likely)
    return Advertisement(body.issued_s, body.valid_s, links, planned, likely, body.plan)


def _news(row: _LinkRow, nodes: Sequence[Eid]) -> LinkNews:
    kind, radiates = _KINDS[row.bearer % _RADIATES], row.bearer >= _RADIATES
    owd_s, loss, availability = row.owd_ms / 1000, row.loss_pct / 100, row.availability_pct / 100
    return LinkNews(nodes[row.node], kind, radiates, row.rate_bps, owd_s, loss, availability, row.begins_s)


def _planned(row: _PlannedRow, node: Eid, nodes: Sequence[Eid], issued_s: int) -> Contact:
    start_s = issued_s + row.begins_ms / 1000
    return Contact(
        node,
        nodes[row.node],
        "",
        start_s,
        start_s + row.lasts_ms / 1000,
        row.rate_bps,
        row.owd_ms / 1000,
        row.loss_pct / 100,
        row.confidence_pct / 100,
        bool(row.bearer & _RADIATES),
        ContactKind.PREDICTED if row.bearer & _PREDICTED else ContactKind.SCHEDULED,
    )


def contacts_of(node: Eid, said: Advertisement, received_s: float) -> list[Contact]:
    """As rows for a contact graph. `received_s` is DTN time: a sender without a clock means from then on."""
    issued_s = float(said.issued_s or received_s)
    return [*_live(node, said.links, issued_s, issued_s + said.valid_s), *(said.planned if said.issued_s else ())]


def _live(node: Eid, links: Iterable[LinkNews], issued_s: float, end_s: float) -> Iterable[Contact]:
    for link in links:
        start_s = issued_s + link.begins_s
        if start_s < end_s and link.availability > 0:
            kind = ContactKind.SCHEDULED if link.begins_s else ContactKind.LIVE
            yield Contact(
                node,
                link.neighbour,
                "",
                start_s,
                end_s,
                link.rate_bps,
                link.owd_s,
                link.loss,
                link.availability,
                link.radiates,
                kind,
            )
