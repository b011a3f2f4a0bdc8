# SPDX-License-Identifier: Apache-2.0
"""What must fit together for foreign nodes and foreign applications: MTCP neighbours, the sockets of applications."""

import ipaddress
from typing import Any, Final

from meshd.link.settings import ConvergenceLayer
from meshd.settings.line_finder import KeyPath
from meshd.settings.reader import DocumentReader, Row, render_path

TLS_REQUIRED: Final = "require"
_NO_AUTHENTICATION: Final = (
    "MTCP can't authenticate anybody, and this bearer requires it (tls = 'require' is the default with a [tls] table)"
)


def check_mtcp(reader: DocumentReader, neighbours: list[Row], bearers: list[Row]) -> None:
    """With an address, which is all that MTCP tells of a sender; never where authentication is required."""
    strict = {row.values.get("name") for row in bearers if _requires_tls(row)}
    for row in bearers:
        if row.values.get("mtcp_listen") is not None and _requires_tls(row):
            reader.note((*row.path, "mtcp_listen"), _NO_AUTHENTICATION, "remove it, or write tls = 'never'")
        listen = row.values.get("mtcp_listen")
        if listen is not None and listen == row.values.get("listen") and not listen.endswith(":0"):
            reader.note((*row.path, "mtcp_listen"), "TCPCLv4 listens there already", "use another port")
    first: dict[tuple[Any, Any], KeyPath] = {}
    for row in neighbours:
        if row.values.get("cl") is not ConvergenceLayer.MTCP:
            continue
        bearer, address = row.values.get("bearer"), row.values.get("address")
        if bearer in strict:
            reader.note((*row.path, "cl"), _NO_AUTHENTICATION, "use 'tcpclv4', or a bearer with tls = 'never'")
        if address is None:
            reader.note((*row.path, "address"), "an MTCP neighbour is known by its address alone", "add address = ...")
            continue
        place = bearer, ipaddress.ip_address(address.rpartition(":")[0].strip("[]").partition("%")[0])
        if place in first:
            reason = f"{render_path(first[place])} has the same IP address: who sends could not be told"
            reader.note((*row.path, "address"), reason, "give each MTCP neighbour of a bearer an address of its own")
        first.setdefault(place, row.path)


def check_sockets(reader: DocumentReader, control: Row, aap2: Row) -> None:
    """Each a path of its own; no group without a socket."""
    own, group = aap2.values.get("socket"), aap2.values.get("group")
    if own is not None and own == control.values.get("socket"):
        reader.note((*aap2.path, "socket"), "the control socket is there", "use another path")
    if own is None and group is not None and "socket" in aap2.values:
        reader.note((*aap2.path, "group"), "there is no socket that could belong to it", "add socket = ...")


def _requires_tls(row: Row) -> bool:
    tls = row.values.get("tls")
    return getattr(tls, "value", tls) == TLS_REQUIRED
