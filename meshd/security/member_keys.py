# SPDX-License-Identifier: Apache-2.0
"""A list of members, and a public key of 32 bytes of each: text of a line for each node, equal at all nodes.

`link.peers` and `signing.peers` are such lists. Which key it is, the first line says.
"""

import re
from collections.abc import Mapping
from typing import Final

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError

PUBLIC_KEY_BYTES: Final = 32
MEMBERS_MAX: Final = 1024
MEMBER_KEYS_FILE_MAX_BYTES: Final = 256 * 1024

_LINE: Final = re.compile(r"(\S+) ([0-9a-f]{64})")


def pack_member_keys(kind: str, keys: Mapping[Eid, bytes]) -> bytes:
    """The file's content: public key by node ID. `kind` is such as `link-peers`."""
    assert len(keys) <= MEMBERS_MAX
    assert all(len(key) == PUBLIC_KEY_BYTES for key in keys.values())
    lines = [_header(kind), *sorted(f"{node.uri} {key.hex()}" for node, key in keys.items())]
    return ("\n".join(lines) + "\n").encode()


def parse_member_keys_untrusted(kind: str, data: bytes, name: str) -> dict[Eid, bytes]:
    """Public key by node ID. Errors: SettingsError; `name` is what the file is called in it."""
    what = kind.replace("-", " ")
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name} is no list of {what}: it is not ASCII text") from error
    if len(data) > MEMBER_KEYS_FILE_MAX_BYTES or not lines or lines[0] != _header(kind):
        raise SettingsError(f"{name} is no list of {what}: its first line is not {_header(kind)!r}")
    if len(lines) - 1 > MEMBERS_MAX:
        raise SettingsError(f"{name} has {len(lines) - 1} nodes: at most {MEMBERS_MAX} are possible")
    keys: dict[Eid, bytes] = {}
    for number, line in enumerate(lines[1:], 2):
        match = _LINE.fullmatch(line)
        node = _node_untrusted(match[1], f"{name}:{number}") if match else None
        if match is None or node is None or node in keys:
            raise SettingsError(f"{name}:{number}: write a node ID and 64 hexadecimal digits, each node once")
        keys[node] = bytes.fromhex(match[2])
    return keys


def _header(kind: str) -> str:
    return f"meshd-{kind} 1"


def _node_untrusted(text: str, where: str) -> Eid:
    try:
        return check_node_id(parse_eid(text))
    except EidError as error:
        raise SettingsError(f"{where}: {error}") from error
