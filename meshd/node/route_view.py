# SPDX-License-Identifier: Apache-2.0
"""What routing may know of this node at the moment: its links, what is queued for them, and its reckoning of time."""

from collections.abc import Callable, Sequence

from meshd.bundle.eid import Eid
from meshd.link.identity import LinkId
from meshd.link.metric import LinkMetric
from meshd.node.state import NodeState


class RouteView:
    """Implements `LinkView`."""

    def __init__(self, state: NodeState, backlog_bytes: Callable[[LinkId, int], int]) -> None:
        """`backlog_bytes` says what goes over a link before a bundle of a precedence."""
        self._state = state
        self._links = state.links
        self.backlog_bytes = backlog_bytes
        self._usable: tuple[int, Sequence[LinkId]] = (-1, ())

    @property
    def version(self) -> int | None:
        """The link table's."""
        return self._links.version

    @property
    def base(self) -> "RouteView":
        """Nothing was left out."""
        return self

    @property
    def utc_offset_s(self) -> float:
        """As the clock was set last."""
        return self._state.utc_offset_ms / 1000

    def links(self) -> Sequence[LinkId]:
        """All that are usable."""
        version, usable = self._usable
        if version != self._links.version:
            usable = [link.id for link in self._links.links() if self._links.is_usable(link.id)]
            self._usable = self._links.version, usable
        return usable

    def for_precedence(self, precedence: int) -> "RouteView | ViewForSize":
        """Without the bearers that hold back bundles of this precedence."""
        floor = self._links.floor
        if precedence >= self._links.floor_max:
            return self
        return ViewForSize(
            self,
            lambda link_id: floor(link_id.bearer) <= precedence,
            lambda bearer: self.is_open(bearer) and floor(bearer) <= precedence,
        )

    def is_open(self, bearer: str) -> bool:
        """False for a bearer that is not there."""
        return self._links.has_bearer(bearer) and self._links.posture(bearer).may_send

    def radiates(self, bearer: str) -> bool:
        """As configured."""
        return self._links.radiates(bearer)

    def usable_links(self, neighbour: Eid) -> Sequence[LinkId]:
        """As the table's."""
        return self._links.usable_links(neighbour)

    def is_neighbour(self, node: Eid) -> bool:
        """As the table's."""
        return self._links.is_neighbour(node)

    def volume_bytes(self, link: LinkId) -> int | None:
        """As the table's."""
        return self._links.volume_bytes(link)

    def metric(self, link: LinkId) -> LinkMetric | None:
        """As the table's."""
        return self._links.metric(link)


class ViewForSize:
    """The same, without the links that don't take bundles of a size or precedence. Implements `LinkView`."""

    def __init__(
        self, base: RouteView, takes: Callable[[LinkId], bool], is_open: Callable[[str], bool] | None = None
    ) -> None:
        """`is_open` where bearers are left out, too."""
        self.base = base
        self.version = None
        self._takes = takes
        self.backlog_bytes = base.backlog_bytes
        self.is_open = is_open or base.is_open
        self.radiates = base.radiates
        self.is_neighbour = base.is_neighbour
        self.volume_bytes = base.volume_bytes
        self.metric = base.metric

    @property
    def utc_offset_s(self) -> float:
        """As the base has it."""
        return self.base.utc_offset_s

    def links(self) -> Sequence[LinkId]:
        """Those that take it."""
        return [link for link in self.base.links() if self._takes(link)]

    def usable_links(self, neighbour: Eid) -> Sequence[LinkId]:
        """Those that take it."""
        return [link for link in self.base.usable_links(neighbour) if self._takes(link)]
