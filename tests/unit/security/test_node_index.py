# SPDX-License-Identifier: Apache-2.0
"""The index of a node on a bearer: always the same, and never that of two."""

import pytest

from meshd.base.errors import SettingsError
from meshd.bundle.eid import parse_eid
from meshd.security.node_index import index_nodes, node_index, pack_names


def test_an_index_is_what_every_node_computes() -> None:
    """On the wire: a change of these is a change of the version."""
    assert node_index(parse_eid("dtn://dpop1/"), "satcom0") == 0x037E
    assert node_index(parse_eid("dtn://dpop1/"), "los0") != 0x037E


def test_nodes_are_found_by_their_index() -> None:
    nodes = {parse_eid(f"dtn://dpop{number}/") for number in range(7)}
    assert {node_index(node, "los0"): node for node in nodes} == index_nodes(nodes, "los0")
    assert len(index_nodes([*nodes, *nodes], "los0")) == 7


def test_two_nodes_with_one_index_are_refused_by_name() -> None:
    seen: dict[int, str] = {}
    for number in range(1, 5000):
        uri = f"ipn:{number}.0"
        other = seen.setdefault(node_index(parse_eid(uri), "los0"), uri)
        if other != uri:
            break
    with pytest.raises(SettingsError, match=f"{other} and {uri} have the same index on los0"):
        index_nodes([parse_eid(other), parse_eid(uri)], "los0")


def test_no_two_lists_of_names_are_packed_alike() -> None:
    packed = {pack_names("ab", "c"), pack_names("a", "bc"), pack_names("abc"), pack_names("abc", "")}
    assert len(packed) == 4
