# SPDX-License-Identifier: Apache-2.0
"""What must fit together for the fountain convergence layer: keys, a place to listen, whom to send to, indexes."""

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid
from meshd.link.settings import BearerKind, ConvergenceLayer, Direction, RadioSettings
from meshd.security.node_index import index_nodes
from meshd.security.settings import LinkSecuritySettings
from meshd.settings.reader import DocumentReader, Row

DELAY_MS: Final = {BearerKind.SATCOM: 300, BearerKind.LOS: 10, BearerKind.TERRESTRIAL: 10}
"""One way, of each kind of bearer, where nothing is said."""
RATE_MIN_BPS: Final = 64_000
RATE_MAX_BPS: Final = 100_000_000
"""Between these a rate is found, where nothing is said."""
BUFFER_MIN_BYTES: Final = 16 * 1024
BUFFER_S: Final = 0.05
"""Every modem holds frames of so long, and no processor that is shared is free again later, as a rule."""
_FILES: Final = ("link_key", "link_peers", "link_x25519")
_IPV6_MTU_BYTES: Final = 1280


def check_fountain(
    reader: DocumentReader, security: Row, neighbours: list[Row], bearers: list[Row], own: Eid | None
) -> None:
    """Keys all or none; every neighbour by this layer can be sealed for, sent to, and told from the others."""
    named = [name for name in _FILES if security.values.get(name) is not None]
    missing = [name for name in _FILES if name in security.values and security.values[name] is None]
    if named and missing:
        remedy = f"sealed datagrams need {', '.join(_FILES)}: `meshctl pki issue` makes them"
        reader.note(security.path, f"{', '.join(missing)} is missing", remedy)
    speaking = [row for row in neighbours if row.values.get("cl") is ConvergenceLayer.FOUNTAIN]
    for row in neighbours:
        _check_alien_keys(reader, row)
    for row in speaking if not named else ():
        reader.note(
            (*row.path, "cl"), "there are no link keys", "add a [security] table: `meshctl pki` makes its files"
        )
    for bearer in bearers:
        _check_rate(reader, bearer)
        _check_bearer(
            reader, bearer, [row for row in speaking if row.values.get("bearer") == bearer.values.get("name")]
        )
        _check_indexes(reader, bearer, speaking, own)


def _check_alien_keys(reader: DocumentReader, row: Row) -> None:
    if row.values.get("cl") is ConvergenceLayer.FOUNTAIN:
        return
    if row.values.get("blind"):
        reader.note((*row.path, "blind"), "only the fountain layer knows it", "remove it, or write cl = 'fountain'")


def _check_rate(reader: DocumentReader, bearer: Row) -> None:
    values = bearer.values
    if "rate" not in values:
        return
    if values["rate"]:
        for name in ("rate_min", "rate_max"):
            if values.get(name) is not None:
                reader.note((*bearer.path, name), "the rate is configured", "remove it, or write rate = 'auto'")
        return
    if values.get("fountain_listen") is None and values.get("fountain_group") is None:
        reader.note((*bearer.path, "rate"), "only the fountain layer can find it", "write what the bearer carries")
    if values.get("direction") is Direction.TX:
        remedy = "write what the bearer carries"
        reader.note((*bearer.path, "rate"), "it can't be found where nobody answers (direction = 'tx')", remedy)
    if get_floor_bps(values) > _get_ceiling_bps(values):
        remedy = "rate_min is the slowest that the bearer ever is, rate_max the fastest"
        reader.note((*bearer.path, "rate_min"), "it is above rate_max", remedy)


def get_floor_bps(values: Mapping[str, Any]) -> int:
    """Where the rate is found: what it begins with."""
    return values.get("rate_min") or RATE_MIN_BPS


def _get_ceiling_bps(values: Mapping[str, Any]) -> int:
    return values.get("rate_max") or RATE_MAX_BPS


def _check_bearer(reader: DocumentReader, bearer: Row, speaking: list[Row]) -> None:
    listen, group = bearer.values.get("fountain_listen"), bearer.values.get("fountain_group")
    if listen is not None and group is not None:
        reader.note((*bearer.path, "fountain_listen"), "the group's port is listened on already", "remove one of them")
    where = listen or group
    if where is None and bearer.values.get("discovery") and "fountain_listen" in bearer.values:
        reader.note((*bearer.path, "discovery"), "nothing is listened on", "add fountain_listen or fountain_group")
    mtu_bytes = bearer.values.get("mtu")
    if where is not None and where.startswith("[") and mtu_bytes is not None and mtu_bytes < _IPV6_MTU_BYTES:
        reader.note((*bearer.path, "mtu"), "IPv6 needs more", f"use at least '{_IPV6_MTU_BYTES} B' (RFC 8200)")
    if speaking and where is None and "fountain_listen" in bearer.values:
        reader.note(bearer.path, "a neighbour on it has cl = 'fountain'", "add fountain_listen or fountain_group")
    for row in speaking:
        _check_address(reader, bearer, row, listen)


def _check_address(reader: DocumentReader, bearer: Row, row: Row, listen: str | None) -> None:
    address, is_group = row.values.get("address"), bearer.values.get("fountain_group") is not None
    if is_group and address is not None:
        reader.note((*row.path, "address"), "all that is sent goes to the bearer's group", "remove it")
    if is_group and row.values.get("mac") is not None:
        reader.note((*row.path, "mac"), "all that is sent goes to the bearer's group", "remove it")
    is_needed = not is_group and bearer.values.get("direction") is not Direction.RX
    if is_needed and address is None and "address" in row.values:
        reader.note((*row.path, "address"), "it is missing: datagrams have to go somewhere", "add address = ...")
    if address is not None and listen is not None and _version(address) != _version(listen):
        remedy = "use addresses of one kind on a bearer, or two bearers"
        reader.note((*row.path, "address"), f"fountain_listen has an IPv{_version(listen)} address", remedy)


def _check_indexes(reader: DocumentReader, bearer: Row, speaking: list[Row], own: Eid | None) -> None:
    name = bearer.values.get("name")
    nodes = [row.values["node"] for row in speaking if row.values.get("bearer") == name and "node" in row.values]
    if name is None or own is None or not nodes:
        return
    try:
        index_nodes([own, *nodes], name)
    except SettingsError as error:
        reason, _, remedy = str(error).partition(": ")
        reader.note((*bearer.path, "name"), reason, remedy)


def _version(address: str) -> int:
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]").partition("%")[0]).version


def make_link_security(security: Row) -> LinkSecuritySettings | None:
    """None: no files are named."""
    values = security.values
    if values["link_key"] is None:
        return None
    return LinkSecuritySettings(values["link_key"], values["link_peers"], values["link_x25519"])


def make_radio(values: Mapping[str, Any]) -> RadioSettings:
    """What a `[[bearer]]` table says for this layer."""
    delay_ms, buffer_bytes, discovery = values["delay"], values["modem_buffer"], values["discovery"]
    rate_max_bps = None if values["rate"] else _get_ceiling_bps(values)
    least_bytes = max(BUFFER_MIN_BYTES, int((rate_max_bps or values["rate"]) * BUFFER_S / 8))
    return RadioSettings(
        listen=values["fountain_listen"],
        group=values["fountain_group"],
        mtu_bytes=values["mtu"],
        direction=values["direction"],
        delay_ms=DELAY_MS[values["kind"]] if delay_ms is None else delay_ms,
        modem_buffer_bytes=least_bytes if buffer_bytes is None else buffer_bytes,
        blind_overhead_pct=values["blind_overhead"],
        emcon_rtc=values["emcon_rtc"],
        emcon_rti_s=values["emcon_rti"],
        ack_budget_bytes=values["ack_budget"],
        rate_max_bps=rate_max_bps,
        discovery=values["fountain_group"] is not None if discovery is None else discovery,
    )
