# SPDX-License-Identifier: Apache-2.0
"""Which neighbours somebody has said to be silent, as a small file that a restart finds: one line of JSON.

    {"dtn://dpop2/": null, "dtn://home/": 1777629600000}

The value is the Unix time in ms at which the silence ends, null where nobody said. Reading and writing block.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshd.base.errors import MeshdError
from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError
from meshd.daemon.state_file import read_state, write_state

FILE_NAME: Final = "neighbours.silent"
SIZE_MAX_BYTES: Final = 1 << 20
TIME_MAX_MS: Final = 1 << 45


class SilentNeighboursError(MeshdError):
    """The file is torn, edited or not ours; the message says why."""


def read_silent(path: Path) -> dict[Eid, float]:
    """Until when; infinite: nobody said. Errors: SilentNeighboursError."""
    try:
        data = read_state(path, SIZE_MAX_BYTES)
    except OSError as error:
        raise SilentNeighboursError(f"{path}: {error.strerror or error}") from error
    try:
        return {} if data is None else parse_silent_untrusted(data)
    except SilentNeighboursError as error:
        raise SilentNeighboursError(f"{path}: {error}") from error


def write_silent(path: Path, until_ms: Mapping[Eid, float]) -> None:
    """Durable on return. Errors: OSError."""
    write_state(path, pack_silent(until_ms))


def pack_silent(until_ms: Mapping[Eid, float]) -> bytes:
    """The file's content."""
    value = {node.uri: None if math.isinf(until) else int(until) for node, until in until_ms.items()}
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def parse_silent_untrusted(data: bytes) -> dict[Eid, float]:
    """The reverse. Errors: SilentNeighboursError."""
    if len(data) > SIZE_MAX_BYTES:
        raise SilentNeighboursError(f"it is longer than {SIZE_MAX_BYTES} bytes")
    try:
        value = json.loads(data)
        nodes = {check_node_id(parse_eid(text)): until for text, until in dict(value).items()}
    except (ValueError, TypeError, RecursionError, EidError) as error:
        raise SilentNeighboursError(f"it does not name silent neighbours: {error}") from error
    for node, until in nodes.items():
        if until is not None and (type(until) is not int or not 0 <= until <= TIME_MAX_MS):
            raise SilentNeighboursError(f"the end of the silence of {node.uri} is no time")
    return {node: math.inf if until is None else float(until) for node, until in nodes.items()}
