# SPDX-License-Identifier: Apache-2.0
"""Where neighbours are looked for: the defaults, and where it makes no sense."""

import pytest

from meshd.settings.load import parse
from meshd.settings.problem import ConfigurationError

HEAD = '[node]\nid = "dtn://a/"\n'
BEARER = '[[bearer]]\nname = "b0"\nkind = "{kind}"\nrate = "1 Mbit/s"\n{more}\n'


def text(kind: str, more: str) -> str:
    return HEAD + BEARER.format(kind=kind, more=more)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", False),
        ('fountain_listen = "0.0.0.0:4557"', False),
        ('fountain_listen = "0.0.0.0:4557"\ndiscovery = true', True),
        ('fountain_group = "239.77.1.1:4557"', True),
        ('fountain_group = "239.77.1.1:4557"\ndiscovery = false', False),
    ],
)
def test_members_are_found_on_groups_unless_told_otherwise(more: str, *, expected: bool) -> None:
    assert parse(text("los", more), "meshd.toml").bearers[0].radio.discovery is expected


@pytest.mark.parametrize(("more", "expected"), [("", False), ("mdns = true", True)])
def test_mdns_is_off_unless_asked_for(more: str, *, expected: bool) -> None:
    assert parse(text("terrestrial", more), "meshd.toml").bearers[0].mdns is expected


@pytest.mark.parametrize(
    ("kind", "more", "problem"),
    [
        ("los", "mdns = true", "mdns: it is for terrestrial bearers that do not radiate"),
        ("satcom", "mdns = true", "mdns: it is for terrestrial bearers that do not radiate"),
        ("terrestrial", "mdns = true\nradiating = true", "mdns: it is for terrestrial bearers that do not radiate"),
        ("los", "discovery = true", "discovery: nothing is listened on"),
    ],
)
def test_where_nobody_can_be_looked_for_it_is_said(kind: str, more: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text(kind, more), "meshd.toml")
    assert problem in str(caught.value)
