# SPDX-License-Identifier: Apache-2.0
"""What must fit together across the tables of a configuration: names that are named must exist, and exist once."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from meshd.link.settings import BearerKind
from meshd.settings.line_finder import KeyPath
from meshd.settings.reader import DocumentReader, Row, nearest, render_path
from meshd.settings.value import DEVICE_NAME_MAX

RESERVED_NAMES = ("others", "radiating")
"""What profiles mean by these are no bearers."""


def check_node(reader: DocumentReader, node: Row, store: Row) -> None:
    """Limits that are no limits."""
    lifetime_ms, most_ms = node.values.get("lifetime"), node.values.get("lifetime_max")
    if lifetime_ms is not None and most_ms is not None and lifetime_ms > most_ms:
        reason = "the default lifetime is longer than lifetime_max allows"
        reader.note((*node.path, "lifetime"), reason, "shorten it or raise lifetime_max")
    known_max, bundles_max = store.values.get("known_max"), store.values.get("bundles_max")
    if known_max is not None and bundles_max is not None and known_max < bundles_max:
        reason = "it is smaller than bundles_max, but every stored bundle is remembered too"
        reader.note((*store.path, "known_max"), reason, f"use at least {bundles_max}")


def check_bearers(reader: DocumentReader, bearers: list[Row], emcon: Row) -> None:
    """Each name once, each listening address once on a device."""
    _check_once(reader, bearers, "name", lambda row: row.values.get("name"))
    _check_once(reader, bearers, "listen", _listening_place)
    for row in bearers:
        name = row.values.get("name")
        if name in RESERVED_NAMES:
            reader.note((*row.path, "name"), f"{name!r} means several bearers in profiles", "choose another name")
        if row.values.get("assured") and emcon.values.get("gate") is False:
            reader.note((*row.path, "assured"), "[emcon] gate = false assures nothing", "remove one of the two")
        is_line = row.values.get("kind", BearerKind.TERRESTRIAL) is BearerKind.TERRESTRIAL
        if row.values.get("mdns") and (not is_line or row.values.get("radiating")):
            reader.note((*row.path, "mdns"), "it is for terrestrial bearers that do not radiate", "remove it")
        if name is not None and row.values.get("device", name) is None and len(name) > DEVICE_NAME_MAX:
            reader.note((*row.path, "name"), f"{name!r} is too long to be the device's name too", "add device = ...")


def check_neighbours(reader: DocumentReader, neighbours: list[Row], bearers: list[Row], own: Any) -> None:
    """On a bearer that exists, once on it, not ourselves."""
    names = _names(bearers)
    for row in neighbours:
        _check_known(reader, (*row.path, "bearer"), row.values.get("bearer"), names, "bearer")
        if own is not None and row.values.get("node") == own:
            reader.note((*row.path, "node"), "that is this node itself", "name the neighbour's node ID")
    _check_once(reader, neighbours, "node", lambda row: _both(row.values.get("node"), row.values.get("bearer")))
    _check_once(reader, neighbours, "address", lambda row: _both(row.values.get("address"), row.values.get("bearer")))


def check_routes(reader: DocumentReader, routes: list[Row], neighbours: list[Row], own: Any) -> None:
    """By way of a neighbour that exists, over bearers that it is on, each way once."""
    bearers_of: dict[str, list[str]] = {}
    for row in neighbours:
        node, bearer = row.values.get("node"), row.values.get("bearer")
        if node is not None and bearer is not None:
            bearers_of.setdefault(node.uri, []).append(bearer)
    for row in routes:
        via = row.values.get("via")
        _check_known(reader, (*row.path, "via"), None if via is None else via.uri, bearers_of, "neighbour")
        if own is not None and row.values.get("destination") == own:
            reader.note((*row.path, "destination"), "that is this node itself", "remove the route")
        if via is not None and via.uri in bearers_of:
            for index, bearer in enumerate(row.values.get("bearers", ())):
                path = (*row.path, "bearers", index)
                _check_known(reader, path, bearer, bearers_of[via.uri], f"bearer of {via.uri}")
    _check_once(reader, routes, "via", _way)


def check_groups(reader: DocumentReader, groups: list[Row]) -> None:
    """Each endpoint once."""
    _check_once(reader, groups, "endpoint", lambda row: row.values.get("endpoint"))


def _names(bearers: list[Row]) -> list[str]:
    return [row.values["name"] for row in bearers if "name" in row.values]


def _both(first: Any, second: Any) -> Hashable:
    return None if first is None or second is None else (first, second)


def _way(row: Row) -> Hashable:
    """A route's destination and neighbour; None where one of them could not be read."""
    if "destination" not in row.values or "via" not in row.values:
        return None
    return row.values["destination"], row.values["via"]


def _listening_place(row: Row) -> Hashable:
    """Device and address; a port that the kernel chooses is never taken twice."""
    listen = row.values.get("listen")
    if listen is None or listen.endswith(":0"):
        return None
    return row.values.get("device") or row.values.get("name"), listen


def _check_once(reader: DocumentReader, rows: list[Row], key: str, identity: Callable[[Row], Hashable]) -> None:
    first: dict[Hashable, KeyPath] = {}
    for row in rows:
        what = identity(row)
        if what is None:
            continue
        if what in first:
            reason = f"{render_path(first[what])} says the same already"
            reader.note((*row.path, key), reason, "remove or change one of the two")
        else:
            first[what] = row.path


def _check_known(reader: DocumentReader, path: KeyPath, name: str | None, known: Iterable[str], noun: str) -> None:
    candidates = list(dict.fromkeys(known))
    if name is not None and name not in candidates:
        reader.note(path, f"there is no {noun} {name!r}", nearest(name, candidates))
