# SPDX-License-Identifier: Apache-2.0
"""Topologies: strict reading, addresses, and the topologies that the lab ships."""

import tomllib

import pytest

from netns_lab.errors import LabError
from netns_lab.scenario import PROFILES, TOPOLOGIES, find_topology
from netns_lab.toml_table import TomlTable
from netns_lab.topology import Topology, parse_topology

PAIR = """
nodes = ["a", "b"]
[link.wire]
bearer = "lan0"
profile = "terrestrial"
[link.wire.members]
a = ["10.0.0.1/24", "fd00::1/64"]
b = ["10.0.0.2/24"]
"""


def parse(text: str) -> Topology:
    return parse_topology("test", TomlTable(tomllib.loads(text), "test.toml"), PROFILES)


def test_a_link_joins_its_members() -> None:
    link = parse(PAIR).link_of("lan0", "a")
    assert (link.name, link.middle, list(link.members)) == ("wire", "mid-wire", ["a", "b"])
    assert link.members["a"].ip(4) == "10.0.0.1"
    assert link.members["a"].ip(6) == "fd00::1"
    assert link.members["a"].profile.name == "terrestrial"
    assert link.members["a"].mac != link.members["b"].mac


def test_a_member_without_that_ip_version_is_an_error() -> None:
    with pytest.raises(LabError, match="'b' has no IPv6 address"):
        parse(PAIR).link("wire").members["b"].ip(6)


def test_a_direction_may_have_its_own_profile() -> None:
    text = PAIR.replace("[link.wire.members]", '[link.wire.towards]\nb = "geo-satcom"\n[link.wire.members]')
    members = parse(text).link("wire").members
    assert (members["a"].profile.name, members["b"].profile.name) == ("terrestrial", "geo-satcom")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('["a", "b"]', '["a", "a"]', r"key 'nodes': needs 1 to 200 different names"),
        ('["a", "b"]', '["a", "B"]', r"key 'nodes': 'B' is no node name"),
        ('["a", "b"]', '["a"]', r"key 'link\.wire\.members\.b': is none of the nodes a"),
        ('"lan0"', '"a-device-name-too-long"', r"key 'link\.wire\.bearer': .* is no device name"),
        ('"terrestrial"', '"terestrial"', r"key 'link\.wire\.profile': link profile 'terestrial' is unknown"),
        ('"10.0.0.2/24"', '"10.0.0.2.3/24"', r"key 'link\.wire\.members\.b': '10\.0\.0\.2\.3/24' is no address"),
        ('b = ["10.0.0.2/24"]', "", r"key 'link\.wire\.members': a link needs two members"),
        ("bearer =", "baerer =", r"key 'link\.wire\.bearer': is missing"),
        ("[link.wire]", "[link.wire]\nmtu = 100", r"key 'link\.wire\.mtu': must be a whole number from 1280"),
        ("[link.wire]", "[link.wire]\nprofil = 1", r"key 'link\.wire\.profil': unknown key; did you mean 'profile'\?"),
    ],
)
def test_errors_name_file_and_key(old: str, new: str, words: str) -> None:
    with pytest.raises(LabError, match=rf"test\.toml: {words}"):
        parse(PAIR.replace(old, new))


def test_a_node_has_each_device_once() -> None:
    second = PAIR.replace('nodes = ["a", "b"]', "").replace("link.wire", "link.other")
    with pytest.raises(LabError, match=r"key 'link\.other\.bearer': node 'a' has bearer 'lan0' on link 'wire'"):
        parse(PAIR + second)


@pytest.mark.parametrize("name", sorted(path.stem for path in TOPOLOGIES.glob("*.toml")))
def test_shipped_topologies_are_right(name: str) -> None:
    topology = find_topology(name)
    addresses = [address for link in topology.links.values() for m in link.members.values() for address in m.addresses]
    assert topology.description
    assert len(set(addresses)) == len(addresses)


def test_an_unknown_topology_lists_the_known_ones() -> None:
    with pytest.raises(LabError, match=r"'square' is unknown; known: .*triangle"):
        find_topology("square")
