# SPDX-License-Identifier: Apache-2.0
"""Groups, status reports and the ceiling of a neighbour in a configuration."""

import pytest

from meshd.bundle.eid import parse_eid
from meshd.node.settings import GroupSettings, ReportKind
from meshd.settings.compare import compare, merge
from meshd.settings.load import parse
from meshd.settings.problem import ConfigurationError

BASE = """
[node]
id = "dtn://dpop1/"
{node}
[[bearer]]
name = "lan0"
kind = "terrestrial"
rate = "1 Mbit/s"
[[neighbour]]
node = "dtn://home/"
bearer = "lan0"
{neighbour}
{rest}
"""
GROUP = '[[group]]\nendpoint = "dtn://convoy/~orders"\nmembers = ["dtn://dpop1/", "dtn://home/"]\n'


def text(node: str = "", neighbour: str = "", rest: str = "") -> str:
    """A configuration with something added."""
    return BASE.format(node=node, neighbour=neighbour, rest=rest)


def test_defaults() -> None:
    configuration = parse(text(), "test")
    assert configuration.node.status_reports == {ReportKind.DELIVERY}
    assert configuration.node.groups == ()
    assert configuration.neighbours[0].precedence_max == 5


def test_what_is_written() -> None:
    configuration = parse(
        text('status_reports = ["deletion", "reception"]', 'precedence_max = "PRIORITY"', GROUP), "test"
    )
    assert configuration.node.status_reports == {ReportKind.DELETION, ReportKind.RECEPTION}
    assert configuration.neighbours[0].precedence_max == 2
    members = frozenset(map(parse_eid, ("dtn://dpop1/", "dtn://home/")))
    assert configuration.node.groups == (GroupSettings(parse_eid("dtn://convoy/~orders"), members),)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (text('status_reports = "delivery"'), "not a list"),
        (text('status_reports = ["rumours"]'), "not known here"),
        (text(neighbour='precedence_max = "HIGH"'), "not known here"),
        (text(rest=GROUP + GROUP), "endpoint"),
        (text(rest=GROUP.replace("~", "")), "no group"),
        (text(rest=GROUP.replace("dtn://convoy", "convoy")), "no endpoint ID"),
        (text(rest='[[group]]\nendpoint = "dtn://convoy/~orders"\nmembers = []'), "no list of node IDs"),
        (text(rest='[[group]]\nendpoint = "dtn://convoy/~orders"\nmembers = ["dtn://home/inbox"]'), "no node ID"),
    ],
)
def test_what_is_wrong(wrong: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        parse(wrong, "test")


def test_all_of_it_can_be_reloaded() -> None:
    old = parse(text(), "test")
    new = parse(text("status_reports = []", 'precedence_max = "ROUTINE"', GROUP), "test")
    changed, needs_restart = compare(old, new)
    assert changed == ["node.status_reports", "neighbour dtn://home/ on lan0", "group dtn://convoy/~orders"]
    assert needs_restart == []
    merged = merge(old, new)
    assert (merged.node, merged.neighbours) == (new.node, new.neighbours)
