# SPDX-License-Identifier: Apache-2.0
"""The neighbour table: every link the node knows, whether it is up, what may leave it, and what it has carried."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle.eid import Eid
from meshd.bundle.precedence import PRECEDENCE_DEFAULT, Precedence
from meshd.bundle.record import BundleId
from meshd.link.identity import LinkId
from meshd.link.metric import LinkMetric, LinkSample, came_up, measured, seeded_by, went_down
from meshd.link.settings import BearerSettings, ConvergenceLayer, NeighbourSettings, Posture, TlsPolicy
from meshd.link.switching import Choice, Score, choose_anew, evaluate

UNRESTRAINED: Final = Precedence.OVERRIDE + 2
"""Above every floor."""
SCORED_BYTES: Final = 64 * 1024
"""Links to one neighbour are put in order by the time that so much takes."""


class Link:
    """One row of the table. Counters count bundles and their encoded bytes."""

    __slots__ = (
        "bearer",
        "id",
        "is_configured",
        "is_up",
        "metric",
        "reason",
        "received_bundles",
        "received_bytes",
        "score_s",
        "sent_bundles",
        "sent_bytes",
        "since",
        "transfer_mtu_bytes",
    )

    def __init__(
        self, link: LinkId, bearer: BearerSettings, cl: ConvergenceLayer, now: float, *, is_configured: bool
    ) -> None:
        self.id = link
        self.bearer = bearer
        self.is_configured = is_configured
        self.is_up = False
        self.since = now
        self.reason = "not connected yet"
        self.sent_bundles = 0
        self.sent_bytes = 0
        self.received_bundles = 0
        self.received_bytes = 0
        self.transfer_mtu_bytes = INLINE_SIZE_MAX_BYTES
        """The neighbour takes no larger bundle."""
        self.metric = seeded_by(bearer, cl)
        self.score_s = self.metric.expected_s(SCORED_BYTES, now)
        """When it was looked at last."""


class LinkTable:
    """Owns the links and the postures; the agent changes it, routing reads it through node/route_view.py."""

    def __init__(self, bearers: Sequence[BearerSettings], neighbours: Sequence[NeighbourSettings], now: float) -> None:
        self._bearers = {bearer.name: bearer for bearer in bearers}
        self._links: dict[LinkId, Link] = {}
        self._by_neighbour: dict[Eid, list[Link]] = {}
        self._postures: dict[str, Posture] = {}
        self._floors: dict[str, int] = {}
        self._let_through: BundleId | None = None
        self.floor_max = 0
        """No bearer holds back bundles of this precedence or above."""
        self._ceilings: dict[LinkId, int] = {}
        self._layers: dict[LinkId, ConvergenceLayer] = {}
        self._choices: dict[Eid, Choice] = {}
        self.version = 0
        """Another number after every change of which links are usable."""
        self.configure(neighbours, now)

    def configure(self, neighbours: Sequence[NeighbourSettings], now: float) -> None:
        """Take over a new list of static neighbours; links that are still up stay until they go down."""
        self.version += 1
        wanted = {LinkId(neighbour.bearer, neighbour.node) for neighbour in neighbours}
        self._ceilings = {LinkId(each.bearer, each.node): each.precedence_max for each in neighbours}
        self._elsewhere: dict[Eid, int] = {}
        for each in neighbours:
            lowest = min(each.precedence_max, self._elsewhere.get(each.node, each.precedence_max))
            self._elsewhere[each.node] = lowest
        self._layers = {LinkId(each.bearer, each.node): each.cl for each in neighbours}
        for link_id in sorted(wanted, key=str):
            if link_id in self._links:
                self._links[link_id].is_configured = True
            else:
                self._add(link_id, now, is_configured=True)
        for link in list(self._links.values()):
            if link.id not in wanted:
                link.is_configured = False
                self._drop_if_gone(link)

    def mark_up(self, link_id: LinkId, now: float, transfer_mtu_bytes: int = INLINE_SIZE_MAX_BYTES) -> Link:
        """A session lives on this link, whose other side takes bundles up to this size."""
        link = self._links.get(link_id) or self._add(link_id, now, is_configured=False)
        self.version += 1
        link.is_up, link.since, link.reason = True, now, ""
        link.transfer_mtu_bytes = transfer_mtu_bytes
        link.metric = came_up(link.metric, now)
        self._choose(link_id.neighbour, now, is_new=not link.metric.outages)
        return link

    def mark_down(self, link_id: LinkId, reason: str, now: float) -> None:
        """The last session of this link has ended."""
        link = self._links.get(link_id)
        if link is None:
            return
        self.version += 1
        link.is_up, link.since, link.reason = False, now, reason
        link.metric = went_down(link.metric, now)
        self._choose(link_id.neighbour, now)
        self._drop_if_gone(link)

    def measure(self, link_id: LinkId, sample: LinkSample, now: float) -> None:
        """Its bearer has measured something; links that are gone meanwhile are passed over."""
        link = self._links.get(link_id)
        if link is None:
            return
        link.metric = measured(link.metric, sample)
        self._choose(link_id.neighbour, now, is_evaluation=True)

    def metric(self, link_id: LinkId) -> LinkMetric | None:
        """How well it carries; None: there is no such link."""
        link = self._links.get(link_id)
        return None if link is None else link.metric

    def set_postures(
        self,
        postures: Mapping[str, Posture],
        floors: Mapping[str, int] | None = None,
        let_through: BundleId | None = None,
    ) -> None:
        """What may leave each bearer; a bearer that is not named is OPEN. `floors`: the least precedence, where
        restricted; for one bundle there is none.
        """
        self.version += 1
        self._postures = dict(postures)
        self._floors = dict(floors or {})
        self._let_through = let_through
        self.floor_max = max(self._floors.values(), default=0)

    def standing(self, bundle: BundleId, precedence: int) -> int:
        """What counts before a floor: the precedence, or more than any for the one bundle that is let through."""
        return UNRESTRAINED if bundle == self._let_through else precedence

    def floor(self, bearer: str) -> int:
        """Bundles below this precedence wait there."""
        return self._floors.get(bearer, 0)

    def posture(self, bearer: str) -> Posture:
        """Of one bearer."""
        return self._postures.get(bearer, Posture.OPEN)

    def has_bearer(self, bearer: str) -> bool:
        """Whether this node has it."""
        return bearer in self._bearers

    def radiates(self, bearer: str) -> bool:
        """Whether what leaves it can be located."""
        return self._bearers[bearer].radiating

    def get(self, link_id: LinkId) -> Link | None:
        """One row."""
        return self._links.get(link_id)

    def precedence_max(self, link_id: LinkId) -> int:
        """What this neighbour may claim at most: as configured for the link; or as on its other bearers, if whoever is
        found here has proven who it is; or else, also when it is not configured any more, ROUTINE.
        """
        ceiling, bearer = self._ceilings.get(link_id), self._bearers[link_id.bearer]
        if ceiling is None and (bearer.radio.discovery or bearer.tls is TlsPolicy.REQUIRE):
            ceiling = self._elsewhere.get(link_id.neighbour)
        return PRECEDENCE_DEFAULT if ceiling is None else ceiling

    def keeps_order(self, link_id: LinkId) -> bool:
        """Whether what it was handed leaves in that order, so that nothing overtakes; known of what is configured."""
        return self._layers.get(link_id, ConvergenceLayer.FOUNTAIN) is not ConvergenceLayer.FOUNTAIN

    def transfer_mtu_bytes(self, link_id: LinkId) -> int:
        """The largest bundle that this neighbour takes."""
        link = self._links.get(link_id)
        return INLINE_SIZE_MAX_BYTES if link is None else link.transfer_mtu_bytes

    def volume_bytes(self, link_id: LinkId) -> int | None:
        """No end of a link is known here: links come and go unannounced."""
        return None

    def links(self) -> Iterable[Link]:
        """All rows."""
        return self._links.values()

    def is_usable(self, link_id: LinkId) -> bool:
        """Up, and frames may leave its bearer."""
        link = self._links.get(link_id)
        return link is not None and link.is_up and self.posture(link_id.bearer).may_send

    def usable_links(self, neighbour: Eid) -> Sequence[LinkId]:
        """Links to this neighbour that are up and may transmit: the chosen one first, the others by their scores."""
        links = [link for link in self._by_neighbour.get(neighbour, ()) if self.is_usable(link.id)]
        if len(links) > 1:
            chosen = self._choices.get(neighbour, Choice()).link
            links.sort(key=lambda link: (link.id != chosen, link.score_s, link.id.bearer))
        return [link.id for link in links]

    def is_neighbour(self, node: Eid) -> bool:
        """True when some bearer has this node as a neighbour, up or not."""
        return node in self._by_neighbour

    def _add(self, link_id: LinkId, now: float, *, is_configured: bool) -> Link:
        layer = self._layers.get(link_id, ConvergenceLayer.TCPCLV4)
        link = Link(link_id, self._bearers[link_id.bearer], layer, now, is_configured=is_configured)
        self._links[link_id] = link
        self._by_neighbour.setdefault(link_id.neighbour, []).append(link)
        return link

    def _choose(self, neighbour: Eid, now: float, *, is_new: bool = False, is_evaluation: bool = False) -> None:
        """Whether to change to another link of this neighbour. Links that died are left at once, new ones are taken
        as their scores say; else it takes several evaluations.
        """
        scores: dict[LinkId, Score] = {}
        for link in self._by_neighbour.get(neighbour, ()):
            if self.is_usable(link.id):
                link.score_s = link.metric.expected_s(SCORED_BYTES, now)
                scores[link.id] = Score(link.score_s, link.metric.sigma_s(SCORED_BYTES))
        before = self._choices.get(neighbour, Choice())
        if is_new:
            after = choose_anew(scores)
        elif is_evaluation or before.link not in scores:
            after = evaluate(before, scores)
        else:
            return
        self._choices[neighbour] = after
        if after.link != before.link:
            self.version += 1

    def _drop_if_gone(self, link: Link) -> None:
        if link.is_configured or link.is_up:
            return
        del self._links[link.id]
        rows = self._by_neighbour[link.id.neighbour]
        rows.remove(link)
        if not rows:
            del self._by_neighbour[link.id.neighbour]
            self._choices.pop(link.id.neighbour, None)
