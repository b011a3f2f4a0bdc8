# SPDX-License-Identifier: Apache-2.0
"""What a reload changes at once, what it leaves for a restart, and what the daemon goes by in between."""

import pytest

from meshd.settings.compare import compare, merge
from meshd.settings.configuration import Configuration
from meshd.settings.load import parse

TEXT = """\
[node]
id = "dtn://a/"
[[bearer]]
name = "lan0"
kind = "terrestrial"
rate = "50 Mbit/s"
[[neighbour]]
node = "dtn://b/"
bearer = "lan0"
address = "10.0.0.2:4556"
[[route]]
destination = "*"
via = "dtn://b/"
[emcon.profile.quiet]
lan0 = "RX_ONLY"
"""
LOS0 = """
[[bearer]]
name = "los0"
kind = "los"
rate = "1 Mbit/s"
"""


def configuration(text: str) -> Configuration:
    return parse(text, "meshd.toml")


OLD = configuration(TEXT)


def test_nothing_changed() -> None:
    assert compare(OLD, configuration(TEXT + "# a comment\n")) == ([], [])
    assert merge(OLD, configuration(TEXT)) == OLD


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("[[bearer]]", 'lifetime = "1 h"\n[[bearer]]', ["node.lifetime"]),
        ("[[bearer]]", 'lifetime_max = "2 d"\n[[bearer]]', ["node.lifetime_max"]),
        ("[[bearer]]", '[store]\nquota = "1 GiB"\nbundles_max = 9\n[[bearer]]', ["store.quota", "store.bundles_max"]),
        ("10.0.0.2", "10.0.0.3", ["neighbour dtn://b/ on lan0"]),
        ("dtn://b/", "dtn://c/", ["neighbour dtn://b/ on lan0", "neighbour dtn://c/ on lan0", "route *"]),
        ('destination = "*"', 'destination = "dtn://z/"', ["route *", "route dtn://z/"]),
        ("RX_ONLY", "OPEN", ["emcon.profile.quiet"]),
        ("profile.quiet", "profile.calm", ["emcon.profile.quiet", "emcon.profile.calm"]),
    ],
)
def test_what_changes_at_once(old: str, new: str, changed: list[str]) -> None:
    later = configuration(TEXT.replace("dtn://b/", new) if old == "dtn://b/" else TEXT.replace(old, new))
    assert compare(OLD, later) == (changed, [])
    assert merge(OLD, later) == later


@pytest.mark.parametrize(
    ("old", "new", "needs_restart"),
    [
        ("dtn://a/", "dtn://x/", ["node.id"]),
        ("[[bearer]]", 'state_dir = "/srv"\n[[bearer]]', ["node.state_dir"]),
        ("[[bearer]]", "clock_trusted = false\n[[bearer]]", ["node.clock_trusted"]),
        ("[[bearer]]", '[control]\nsocket = "/x"\ngroup = "g"\n[[bearer]]', ["control.socket", "control.group"]),
        ("[[bearer]]", '[emcon]\nlease = "6 s"\ngate = false\n[[bearer]]', ["emcon.lease", "emcon.gate"]),
        ("[[bearer]]", '[emcon]\nboot_posture = "OPEN"\n[[bearer]]', ["emcon.boot_posture"]),
        ("50 Mbit/s", "60 Mbit/s", ["bearer lan0"]),
        ("[[neighbour]]", LOS0 + "[[neighbour]]", ["bearer los0"]),
    ],
)
def test_what_needs_a_restart(old: str, new: str, needs_restart: list[str]) -> None:
    later = configuration(TEXT.replace(old, new, 1))
    assert compare(OLD, later) == ([], needs_restart)
    assert merge(OLD, later) == OLD


def test_what_stands_on_a_new_bearer_waits_with_it() -> None:
    neighbour = '[[neighbour]]\nnode = "dtn://d/"\nbearer = "los0"\n'
    routes = '[[route]]\ndestination = "dtn://y/"\nvia = "dtn://d/"\n'
    later = configuration(TEXT + LOS0 + neighbour + routes + '[emcon.profile.all]\nlos0 = "RX_ONLY"\n')
    changed, needs_restart = compare(OLD, later)
    assert needs_restart == ["bearer los0"]
    assert changed == ["neighbour dtn://d/ on los0", "route dtn://y/", "emcon.profile.all"]
    merged = merge(OLD, later)
    assert (merged.bearers, merged.neighbours, merged.routes) == (OLD.bearers, OLD.neighbours, OLD.routes)
    assert merged.emcon.profiles["all"].postures == {}


def test_a_route_never_widens_because_its_bearer_waits() -> None:
    neighbour = '[[neighbour]]\nnode = "dtn://b/"\nbearer = "los0"\n'
    narrow = configuration(TEXT.replace('via = "dtn://b/"', 'via = "dtn://b/"\nbearers = ["los0"]') + LOS0 + neighbour)
    assert merge(OLD, narrow).routes == ()


def test_the_order_of_routes_to_one_destination_counts() -> None:
    second = '[[neighbour]]\nnode = "dtn://c/"\nbearer = "lan0"\n'
    routes = [
        '[[route]]\ndestination = "dtn://z/"\nvia = "dtn://b/"\n',
        '[[route]]\ndestination = "dtn://z/"\nvia = "dtn://c/"\n',
    ]
    one = configuration(TEXT + second + routes[0] + routes[1])
    other = configuration(TEXT + second + routes[1] + routes[0])
    assert compare(one, other) == (["route dtn://z/"], [])
