# SPDX-License-Identifier: Apache-2.0
"""Forwarding by direct neighbours first, static routes second, the default route last."""

from collections.abc import Sequence
from typing import Final

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleRecord
from meshd.link.identity import LinkId
from meshd.routing.decision import Contraindicated, Forward, LinkView
from meshd.routing.settings import RouteSettings

REMEMBERED_MAX: Final = 4096
"""Decisions remembered while no link changes."""


class StaticRouter:
    """Implements `Router` on the `[[route]]` tables of the configuration."""

    def __init__(self, routes: Sequence[RouteSettings]) -> None:
        self._routes: dict[Eid | None, list[RouteSettings]] = {}
        self._decisions: dict[tuple[Eid, Eid | None], Forward | Contraindicated] = {}
        self._view: LinkView | None = None
        self._version = 0
        for route in routes:
            self._routes.setdefault(route.destination, []).append(route)

    def choose_next_hops(self, record: BundleRecord, view: LinkView, now: float) -> Forward | Contraindicated:
        """Decide for one bundle; never back to the node that it came from."""
        version = view.version
        if version is None:
            return self._choose(record.destination, record.previous_node, view)
        if view is not self._view or version != self._version:
            self._decisions.clear()
            self._view, self._version = view, version
        question = record.destination, record.previous_node
        decision = self._decisions.get(question)
        if decision is None:
            if len(self._decisions) >= REMEMBERED_MAX:
                self._decisions.clear()
            decision = self._decisions[question] = self._choose(*question, view)
        return decision

    def has_route(self, node: Eid) -> bool:
        """Whether some `[[route]]` table is for it, the default one included."""
        return node in self._routes or None in self._routes

    def _choose(self, destination: Eid, back: Eid | None, view: LinkView) -> Forward | Contraindicated:
        node = destination.node
        if node != back:
            direct = view.usable_links(node)
            if direct:
                return _forward(tuple(direct), view)
        routes = self._routes.get(node) or self._routes.get(None) or []
        for route in routes:
            if route.via == back or route.via == node:
                continue
            links = _preferred(route, view.usable_links(route.via))
            if links:
                return _forward(links, view)
        return Contraindicated(self._why(node, routes, view), None, self._leads_back(node, back, routes, view))

    def _leads_back(self, node: Eid, back: Eid | None, routes: Sequence[RouteSettings], view: LinkView) -> bool:
        if node == back:
            return True
        return bool(routes) and not view.is_neighbour(node) and all(route.via == back for route in routes)

    def _why(self, node: Eid, routes: Sequence[RouteSettings], view: LinkView) -> str:
        if routes:
            vias = ", ".join(sorted({route.via.uri for route in routes}))
            return f"no usable link to {node.uri}, nor to its next hops {vias}"
        if view.is_neighbour(node):
            return f"the links to neighbour {node.uri} are down or silent"
        return f"no route to {node.uri}: it is no neighbour and no [[route]] names it"


def _forward(links: tuple[LinkId, ...], view: LinkView) -> Forward:
    volumes_bytes = {link: volume for link in links if (volume := view.volume_bytes(link)) is not None}
    return Forward(links, volumes_bytes)


def _preferred(route: RouteSettings, links: Sequence[LinkId]) -> tuple[LinkId, ...]:
    """The links on the route's bearers in the route's order; all of them where it names none."""
    if not route.bearers:
        return tuple(links)
    by_bearer = {link.bearer: link for link in links}
    return tuple(by_bearer[bearer] for bearer in route.bearers if bearer in by_bearer)
