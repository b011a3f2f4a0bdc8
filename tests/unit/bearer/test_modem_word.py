# SPDX-License-Identifier: Apache-2.0
"""What a modem says becomes samples of links, a pace and a hurry."""

import ipaddress
import random

import pytest

from meshd.bearer.link import Figure
from meshd.bearer.modem_word import CONFIDENCE_MIN, ModemWord, modem_maker
from meshd.bundle.eid import parse_eid
from meshd.link.dlep.destinations import Destination
from meshd.link.dlep.items import Metrics
from meshd.link.dlep.session import DestinationChanged, DestinationGone, MetricsChanged, SessionEnded, SessionUp
from meshd.link.identity import LinkId
from meshd.link.metric import LinkSample
from meshd.link.settings import BearerKind, BearerSettings, NeighbourSettings
from meshd.node.events import Event, LinkMeasured

DPOP2, DPOP3, DPOP4 = (parse_eid(f"dtn://dpop{number}/") for number in (2, 3, 4))
NEIGHBOURS = (
    NeighbourSettings(DPOP2, "rad0", "10.0.0.2:4557"),
    NeighbourSettings(DPOP3, "rad0", "[2001:db8:0:0::3]:4557"),
    NeighbourSettings(DPOP4, "sat0", "10.0.0.4:4557"),
)
RATE_BPS = 2_000_000


class Owner:
    """What the word does."""

    def __init__(self) -> None:
        self.samples: dict[LinkId, LinkSample] = {}
        self.paces: list[int] = []
        self.hurries = 0
        self.reports: list[tuple[str, dict[str, Figure]]] = []
        self.word = ModemWord("rad0", RATE_BPS, self.dispatch, self.report, self.paces.append, self.hurry)
        self.word.configure(NEIGHBOURS)
        assert not self.samples

    def dispatch(self, event: Event) -> None:
        assert isinstance(event, LinkMeasured)
        self.samples[event.link] = event.sample

    def report(self, kind: str, fields: dict[str, Figure]) -> None:
        self.reports.append((kind, fields))

    def hurry(self) -> None:
        self.hurries += 1

    def sample(self, node: object) -> LinkSample:
        (found,) = [sample for link, sample in self.samples.items() if link.neighbour == node]
        return found


def there(address: str, number: int = 1, **metrics: int) -> DestinationChanged:
    """A destination that is up."""
    return DestinationChanged(
        Destination(bytes([number] * 6), frozenset({ipaddress.ip_address(address)}), Metrics(**metrics))
    )


def test_what_is_said_of_all_holds_for_each_link_of_the_bearer() -> None:
    owner = Owner()
    owner.word.take(SessionUp("Radio 7", is_secured=True, metrics=Metrics(transmit_bps=1_000_000, latency_us=40_000)))
    assert set(owner.samples) == {LinkId("rad0", DPOP2), LinkId("rad0", DPOP3)}
    assert owner.sample(DPOP2) == LinkSample(declared_bps=1_000_000, declared_owd_s=0.04, confidence=1.0)
    assert owner.paces == [1_000_000]
    assert owner.reports == [("modem.up", {"bearer": "rad0", "modem": "Radio 7", "rate_bps": 1_000_000})]


def test_a_destination_is_the_neighbour_with_its_address() -> None:
    owner = Owner()
    owner.word.take(there("2001:db8::3", transmit_bps=64_000, quality_transmit_pct=40))
    assert set(owner.samples) == {LinkId("rad0", DPOP3)}
    assert owner.sample(DPOP3) == LinkSample(declared_bps=64_000, confidence=0.4)
    assert owner.paces == [64_000]
    assert owner.hurries == 1
    owner.word.take(there("2001:db8::3", transmit_bps=128_000))
    assert owner.paces == [64_000, 128_000]
    assert owner.hurries == 1


def test_the_slowest_neighbour_sets_the_pace_and_strangers_do_not() -> None:
    owner = Owner()
    owner.word.take(there("10.0.0.2", 1, transmit_bps=500_000))
    owner.word.take(there("2001:db8::3", 2, transmit_bps=300_000))
    owner.word.take(there("10.0.0.99", 3, transmit_bps=1000))
    owner.word.take(there("10.0.0.4", 4, transmit_bps=1000))  # a neighbour, but of another bearer
    assert owner.paces == [500_000, 300_000]


def test_a_modem_never_raises_the_pace_above_what_is_configured() -> None:
    owner = Owner()
    owner.word.take(MetricsChanged(Metrics(transmit_bps=10 * RATE_BPS)))
    assert owner.paces == []
    assert owner.sample(DPOP2).declared_bps == 10 * RATE_BPS


def test_a_lost_destination_costs_confidence_until_it_returns() -> None:
    owner = Owner()
    event = there("10.0.0.2", transmit_bps=500_000)
    owner.word.take(event)
    owner.word.take(DestinationGone(event.destination))
    assert owner.sample(DPOP2).confidence == CONFIDENCE_MIN
    owner.word.take(event)
    assert owner.sample(DPOP2).confidence == 1.0
    assert owner.hurries == 2


def test_without_a_modem_all_is_as_configured() -> None:
    owner = Owner()
    event = there("10.0.0.2", transmit_bps=500_000, quality_transmit_pct=3)
    owner.word.take(event)
    owner.word.take(SessionEnded("the modem closed the connection"))
    assert owner.sample(DPOP2) == LinkSample(confidence=1.0)
    assert owner.paces == [500_000, RATE_BPS]


@pytest.mark.parametrize("rate_bps", [0, None])
def test_a_rate_of_zero_says_nothing(rate_bps: int | None) -> None:
    owner = Owner()
    owner.word.take(MetricsChanged(Metrics(transmit_bps=rate_bps)))
    assert owner.sample(DPOP2).declared_bps is None
    assert owner.paces == []


def test_a_new_link_is_told_what_is_known() -> None:
    owner = Owner()
    owner.word.repeat(DPOP2)
    assert not owner.samples
    owner.word.take(SessionUp("Radio 7", is_secured=True, metrics=Metrics()))
    owner.word.take(there("10.0.0.2", transmit_bps=500_000))
    owner.samples.clear()
    owner.word.repeat(DPOP2)
    assert owner.sample(DPOP2).declared_bps == 500_000


def test_a_bearer_without_a_modem_has_none() -> None:
    settings = BearerSettings("rad0", BearerKind.LOS, "rad0", True, None, RATE_BPS, 0, 15)
    assert modem_maker(settings, lambda *_: None, random.Random(1)) is None
