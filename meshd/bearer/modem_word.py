# SPDX-License-Identifier: Apache-2.0
"""What a modem's word (DLEP) means for the links of its bearer: rates, delays, confidence, and when to try again.

A destination is a neighbour when one of its addresses is the neighbour's; what is said of no destination holds for all.
The modem's rate begins the link's own measurement anew, its latency serves until a round trip is measured, and its
signal quality only lowers the confidence in the link: whether a link is up is still seen on the link itself.
"""

import ipaddress
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final, assert_never

from meshd.bearer.link import Figure
from meshd.bearer.modem import Modem
from meshd.bearer.problems import Problems, Report
from meshd.bundle.eid import Eid
from meshd.link.dlep.destinations import Destination
from meshd.link.dlep.items import Metrics
from meshd.link.dlep.session import (
    DestinationChanged,
    DestinationGone,
    DlepEvent,
    MetricsChanged,
    SessionEnded,
    SessionUp,
)
from meshd.link.identity import LinkId
from meshd.link.metric import LinkSample
from meshd.link.settings import BearerSettings, NeighbourSettings
from meshd.node.events import Event, LinkMeasured

Dispatch = Callable[[Event], None]

CONFIDENCE_MIN: Final = 0.05
"""However bad the signal, and when the modem says that it lost the neighbour: the link may still be all there is."""


class ModemWord:
    """Of one bearer."""

    def __init__(
        self,
        bearer: str,
        rate_max_bps: int,
        dispatch: Dispatch,
        report: Report,
        set_pace: Callable[[int], None],
        hurry: Callable[[], None],
    ) -> None:
        """`rate_max_bps` as configured. `set_pace` gets what the bearer may send; `hurry`: somebody can be reached."""
        self._bearer = bearer
        self._rate_max_bps = rate_max_bps
        self._dispatch = dispatch
        self._report = report
        self._set_pace = set_pace
        self._hurry = hurry
        self._nodes: dict[str, Eid] = {}
        self._is_up = False
        self._metrics = Metrics()
        self._known: dict[bytes, Destination] = {}
        self._lost: set[Eid] = set()
        self._pace_bps = rate_max_bps

    def configure(self, neighbours: Sequence[NeighbourSettings]) -> None:
        """These are the neighbours from now on."""
        self._nodes = {
            _host(each.address): each.node
            for each in neighbours
            if each.bearer == self._bearer and each.address is not None
        }
        if self._is_up:
            self._tell(self._nodes.values())

    def take(self, event: DlepEvent) -> None:
        """The modem says this."""
        match event:
            case SessionUp(peer_type, _, metrics):
                self._is_up, self._metrics = True, metrics
                self._note("modem.up", {"modem": peer_type, "rate_bps": metrics.transmit_bps})
                self._tell(self._nodes.values())
            case MetricsChanged(metrics):
                self._metrics = metrics
                self._tell(self._nodes.values())
            case DestinationChanged(destination):
                is_new = destination.mac not in self._known
                self._known[destination.mac] = destination
                nodes = self._nodes_of(destination)
                self._lost.difference_update(nodes)
                self._tell(nodes)
                if is_new:
                    self._note_destination("modem.destination_up", destination)
                    self._hurry()
            case DestinationGone(destination):
                self._known.pop(destination.mac, None)
                nodes = self._nodes_of(destination)
                self._lost.update(nodes)
                self._tell(nodes)
                self._note_destination("modem.destination_down", destination)
            case SessionEnded(reason):
                self._is_up, self._metrics, self._known = False, Metrics(), {}
                self._lost.clear()
                self._note("modem.down", {"reason": reason})
                self._tell(self._nodes.values())
            case _:
                assert_never(event)

    def repeat(self, node: Eid) -> None:
        """The link to this node is new: it has to be told what is known."""
        if self._is_up:
            self._tell([node])

    def _tell(self, nodes: Iterable[Eid]) -> None:
        for node in nodes:
            self._dispatch(LinkMeasured(LinkId(self._bearer, node), self._sample(node)))
        told = [each.metrics.transmit_bps for each in self._known.values() if self._nodes_of(each)]
        rates_bps = [each for each in told or [self._metrics.transmit_bps] if each]
        pace_bps = min([self._rate_max_bps, *rates_bps])
        if pace_bps != self._pace_bps:
            self._pace_bps = pace_bps
            self._set_pace(pace_bps)

    def _sample(self, node: Eid) -> LinkSample:
        metrics = next((each.metrics for each in self._known.values() if node in self._nodes_of(each)), self._metrics)
        confidence = 1.0 if metrics.quality_transmit_pct is None else metrics.quality_transmit_pct / 100
        if node in self._lost:
            confidence = 0.0
        return LinkSample(
            declared_bps=metrics.transmit_bps or None,
            declared_owd_s=None if metrics.latency_us is None else metrics.latency_us / 1e6,
            confidence=max(confidence, CONFIDENCE_MIN),
        )

    def _nodes_of(self, destination: Destination) -> list[Eid]:
        found = [self._nodes.get(str(address)) for address in destination.addresses]
        return [node for node in found if node is not None]

    def _note_destination(self, kind: str, destination: Destination) -> None:
        names = ", ".join(node.uri for node in self._nodes_of(destination))
        rate_bps = destination.metrics.transmit_bps
        self._note(kind, {"mac": destination.mac.hex(":"), "neighbour": names or None, "rate_bps": rate_bps})

    def _note(self, kind: str, fields: dict[str, Figure]) -> None:
        self._report(kind, {"bearer": self._bearer, **fields})


def _host(address: str) -> str:
    """As `ipaddress` writes it."""
    return str(ipaddress.ip_address(address.rpartition(":")[0].strip("[]").partition("%")[0]))


MakeModem = Callable[[Dispatch, Callable[[int], None], Callable[[], None]], tuple[Modem, ModemWord]]


def modem_maker(settings: BearerSettings, report: Report, rng: random.Random) -> MakeModem | None:
    """None: no modem of this bearer speaks DLEP."""
    address = settings.dlep
    if address is None:
        return None

    def make(dispatch: Dispatch, set_pace: Callable[[int], None], hurry: Callable[[], None]) -> tuple[Modem, ModemWord]:
        word = ModemWord(settings.name, settings.rate_bps, dispatch, report, set_pace, hurry)
        problems = Problems(settings.name, report)
        return Modem(address, settings.dlep_heartbeat_s, rng, problems, word.take), word

    return make
