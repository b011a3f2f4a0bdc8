# SPDX-License-Identifier: Apache-2.0
"""Settings of the fountain layer: keys, places, groups, what a silent neighbour needs, and what does not fit."""

import re
from pathlib import PurePosixPath

import pytest

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid
from meshd.link.settings import ConvergenceLayer, Direction, RadioSettings
from meshd.security.node_index import node_index
from meshd.security.settings import LinkSecuritySettings
from meshd.settings.compare import compare, merge
from meshd.settings.configuration import Configuration
from meshd.settings.load import parse

KEYS = """\
[security]
link_key = "/k/link.key"
link_peers = "/k/link.peers"
link_x25519 = "/k/link.x25519"
"""
BEARER = """\
[[bearer]]
name = "satcom0"
kind = "satcom"
rate = "2 Mbit/s"
fountain_listen = "0.0.0.0:4557"
"""
NEIGHBOUR = """\
[[neighbour]]
node = "dtn://b/"
bearer = "satcom0"
cl = "fountain"
address = "10.0.0.2:4557"
"""
TEXT = '[node]\nid = "dtn://a/"\n' + KEYS + BEARER + NEIGHBOUR
GROUP = TEXT.replace('fountain_listen = "0.0.0.0:4557"', 'fountain_group = "239.77.1.1:4557"').replace(
    'address = "10.0.0.2:4557"\n', ""
)


def configuration(text: str) -> Configuration:
    return parse(text, "meshd.toml")


def twin_of(node: str, bearer: str) -> str:
    """Another node ID with the same index on this bearer."""
    wanted = node_index(Eid(node), bearer)
    names = (f"dtn://n{number}/" for number in range(10**7))
    return next(each for each in names if node_index(Eid(each), bearer) == wanted)


def test_a_satellite_link_takes_a_few_lines() -> None:
    read = configuration(TEXT)
    assert read.security == LinkSecuritySettings(
        PurePosixPath("/k/link.key"), PurePosixPath("/k/link.peers"), PurePosixPath("/k/link.x25519")
    )
    assert read.bearers[0].radio == RadioSettings(listen="0.0.0.0:4557", delay_ms=300)
    (neighbour,) = read.neighbours
    assert (neighbour.cl, neighbour.mac, neighbour.blind) == (ConvergenceLayer.FOUNTAIN, None, False)


def test_a_fast_bearer_has_a_larger_buffer() -> None:
    assert configuration(TEXT.replace("2 Mbit", "200 Mbit")).bearers[0].radio.modem_buffer_bytes == 1_250_000


def test_a_rate_is_found_from_a_floor() -> None:
    bearer = configuration(TEXT.replace('"2 Mbit/s"', '"auto"')).bearers[0]
    assert (bearer.rate_bps, bearer.radio.rate_max_bps) == (64_000, 100_000_000)
    between = '"auto"\nrate_min = "9600 bit/s"\nrate_max = "2 Mbit/s"'
    bearer = configuration(TEXT.replace('"2 Mbit/s"', between)).bearers[0]
    assert (bearer.rate_bps, bearer.radio.rate_max_bps) == (9600, 2_000_000)


@pytest.mark.parametrize(
    ("rate", "place", "reason"),
    [
        ('"2 Mbit/s"\nrate_min = "1 Mbit/s"', "rate_min", "the rate is configured"),
        ('"2 Mbit/s"\nrate_max = "3 Mbit/s"', "rate_max", "the rate is configured"),
        ('"auto"\nrate_min = "2 Mbit/s"\nrate_max = "1 Mbit/s"', "rate_min", "it is above rate_max"),
        ('"auto"\nrate_min = "200 Mbit/s"', "rate_min", "it is above rate_max"),
        ('"auto"\ndirection = "tx"', "rate", "it can't be found where nobody answers"),
        ('"automatic"', "rate", "is not a rate"),
    ],
)
def test_a_rate_that_cant_be_found_is_refused(rate: str, place: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        configuration(TEXT.replace('"2 Mbit/s"', rate))
    assert re.search(rf"bearer\[1\]\.{place}: .*{reason}", str(caught.value))


def test_only_the_fountain_layer_finds_a_rate() -> None:
    line = '[node]\nid = "dtn://a/"\n[[bearer]]\nname = "lan0"\nkind = "terrestrial"\nrate = "auto"\n'
    with pytest.raises(SettingsError, match="only the fountain layer can find it"):
        configuration(line)


def test_everything_can_be_said() -> None:
    more = """\
mtu = "1400 B"
direction = "tx"
delay = "120 ms"
modem_buffer = "64 KiB"
blind_overhead = "60 %"
emcon_rtc = 4
emcon_rti = "5 min"
"""
    text = TEXT.replace('rate = "2 Mbit/s"\n', 'rate = "2 Mbit/s"\n' + more)
    text += 'mac = "02:00:00:AA:00:01"\nblind = true\n'
    read = configuration(text)
    assert read.bearers[0].radio == RadioSettings("0.0.0.0:4557", None, 1400, Direction.TX, 120, 64 * 1024, 60, 4, 300)
    assert (read.neighbours[0].mac, read.neighbours[0].blind) == ("02:00:00:aa:00:01", True)


def test_a_group_needs_no_addresses_and_a_listener_none_either() -> None:
    assert configuration(GROUP).bearers[0].radio.group == "239.77.1.1:4557"
    only_listens = TEXT.replace("rate", 'direction = "rx"\nrate').replace('address = "10.0.0.2:4557"\n', "")
    assert configuration(only_listens).neighbours[0].address is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TEXT.replace(KEYS, ""), "neighbour[1].cl: there are no link keys"),
        (TEXT.replace('link_peers = "/k/link.peers"\n', ""), "security: link_peers is missing"),
        (TEXT.replace('fountain_listen = "0.0.0.0:4557"\n', ""), "bearer[1]: a neighbour on it has cl = 'fountain'"),
        (TEXT.replace('address = "10.0.0.2:4557"\n', ""), "neighbour[1].address: it is missing"),
        (TEXT.replace("10.0.0.2:", "[fd00::2]:"), "neighbour[1].address: fountain_listen has an IPv4 address"),
        (GROUP + 'address = "10.0.0.2:9"\n', "neighbour[1].address: all that is sent goes to the bearer's group"),
        (GROUP + 'mac = "02:00:00:00:00:01"\n', "neighbour[1].mac: all that is sent goes to the bearer's group"),
        (GROUP.replace("239.77.1.1", "10.0.0.1"), "bearer[1].fountain_group: '10.0.0.1:4557' is no multicast group"),
        (
            TEXT.replace("rate", 'fountain_group = "239.1.1.1:5"\nrate'),
            "bearer[1].fountain_listen: the group's port is listened on already",
        ),
        (
            TEXT.replace("0.0.0.0", "[::]").replace("10.0.0.2", "[fd00::2]").replace("rate", 'mtu = "1200 B"\nrate'),
            "bearer[1].mtu: IPv6 needs more",
        ),
        (TEXT + 'mac = "03:00:00:00:00:01"\n', "neighbour[1].mac: '03:00:00:00:00:01' is no hardware address"),
        (TEXT.replace('cl = "fountain"\n', "blind = true\n"), "neighbour[1].blind: only the fountain layer knows it"),
        (TEXT.replace("rate", "blind_overhead = '40'\nrate"), "bearer[1].blind_overhead: '40' is not a percentage"),
        (TEXT.replace("rate", "blind_overhead = '900 %'\nrate"), "bearer[1].blind_overhead: '900 %' is out of range"),
        (TEXT.replace("rate", "direction = 'up'\nrate"), "bearer[1].direction: 'up' is not known here"),
    ],
)
def test_what_does_not_fit_is_named(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        configuration(text)
    assert problem in str(caught.value)


def test_two_nodes_with_one_index_are_refused() -> None:
    other = twin_of("dtn://a/", "satcom0")
    with pytest.raises(SettingsError, match="have the same index on satcom0"):
        configuration(TEXT.replace("dtn://b/", other))


def test_keys_and_neighbours_change_at_a_reload_and_bearers_at_a_restart() -> None:
    old = configuration(TEXT)
    new = configuration(
        TEXT.replace("/k/", "/n/").replace("rate", 'delay = "1 s"\nrate') + 'mac = "02:00:00:00:00:01"\n'
    )
    changed, needs_restart = compare(old, new)
    assert changed == [
        "security.link_key",
        "security.link_peers",
        "security.link_x25519",
        "neighbour dtn://b/ on satcom0",
    ]
    assert needs_restart == ["bearer satcom0"]
    merged = merge(old, new)
    assert (merged.security, merged.bearers) == (new.security, old.bearers)
