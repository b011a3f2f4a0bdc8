# SPDX-License-Identifier: Apache-2.0
"""The words for neighbours and links in answers to people, with what fountain bearers know of them."""

from typing import Any

import pytest

from meshd.cl.fountain.peer import Life
from meshd.daemon.service import _found_peer, _link_state, _peer_state
from meshd.link.link_table import LinkTable
from tests.unit.bearer.tcp_peers import ALPHA, make_link, make_settings


def state_of(*, is_up: bool, **snapshot: Any) -> str:
    table = LinkTable([make_settings()], [], 0.0)
    link = table.mark_up(make_link(ALPHA), 0.0)
    link.is_up = is_up
    return _link_state(link, snapshot)


def test_a_link_is_what_its_bearer_knows_of_it() -> None:
    assert state_of(is_up=True) == "up"
    assert state_of(is_up=True, state="dormant") == "dormant"
    assert state_of(is_up=True, peer=Life.UP.value) == "up"
    assert state_of(is_up=True, peer=Life.SILENT.value) == "silent"
    assert state_of(is_up=False, peer=Life.ONE_WAY.value) == "one-way"
    assert state_of(is_up=False, peer=Life.DOWN.value) == "down"


@pytest.mark.parametrize(
    ("states", "word"),
    [
        (["down", "up"], "up"),
        (["dormant"], "up"),
        (["down", "silent"], "silent"),
        (["one-way", "down"], "one-way"),
        (["silent", "up"], "up"),
        (["down"], "down"),
        ([], "down"),
    ],
)
def test_a_neighbour_is_what_the_best_of_its_links_is(states: list[str], word: str) -> None:
    assert _peer_state(states) == word


def test_a_neighbour_that_is_heard_and_does_not_hear_us_is_shown() -> None:
    row = {"neighbour": "dtn://a/", "bearer": "rad0", "peer": Life.ONE_WAY.value, "address": None, "last_heard_s": 2.0}
    peer = _found_peer(row)
    assert (peer["node"], peer["state"], peer["last_heard_s"]) == ("dtn://a/", "one-way", 2.0)
    assert peer["bearers"] == [{"bearer": "rad0", "state": "one-way", "address": None}]
