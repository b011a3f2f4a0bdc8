# SPDX-License-Identifier: Apache-2.0
"""The 16 bits that name a node on one bearer, in sealed headers and in frames (DESIGN section 5).

A truncated hash of node ID and bearer needs no table that all nodes would have to agree on; two nodes with the same
index are refused when settings load. The bearer is named here, and wherever keys are derived, as the whole mission
names it: all nodes on it must use the same name.
"""

import hashlib
from collections.abc import Iterable

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid


def node_index(node: Eid, bearer: str) -> int:
    """The index of a node on a bearer."""
    return int.from_bytes(hashlib.sha256(pack_names("meshd node index", node.uri, bearer)).digest()[:2])


def index_nodes(nodes: Iterable[Eid], bearer: str) -> dict[int, Eid]:
    """Node by index. Errors: SettingsError: two of them have the same."""
    found: dict[int, Eid] = {}
    for node in nodes:
        other = found.setdefault(node_index(node, bearer), node)
        if other != node:
            text = f"{other.uri} and {node.uri} have the same index on {bearer}: rename the bearer, at all nodes alike"
            raise SettingsError(text)
    return found


def pack_names(*names: str) -> bytes:
    """Texts as one, each with its length before it: no two lists of texts are packed alike."""
    return b"".join(len(name).to_bytes(4) + name for name in map(str.encode, names))
