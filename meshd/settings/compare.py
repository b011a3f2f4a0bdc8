# SPDX-License-Identifier: Apache-2.0
"""What SIGHUP does with a new configuration: what changes at once, and what waits for a restart.

Changed at once: lifetimes, quotas, TLS files (for new sessions), link and signing keys, neighbours, routes, profiles.
A restart is needed for what sockets, files and the gate are bound to: the node's identity and directory, the sockets
of applications, bearers.
"""

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any, Final

from meshd.settings import schema
from meshd.settings.configuration import Configuration

_NODE_FIELDS: Final = {
    "node.id": "id",
    "node.state_dir": "state_dir",
    "node.clock_trusted": "clock_trusted",
    "node.lifetime": "lifetime_ms",
    "node.lifetime_max": "lifetime_max_ms",
    "node.status_reports": "status_reports",
    "store.quota": "quota_bytes",
    "store.bundles_max": "bundles_max",
    "store.known_max": "known_max",
}
_EMCON_FIELDS: Final = {
    "emcon.boot_posture": "boot_posture",
    "emcon.lease": "lease_s",
    "emcon.gate": "gate",
}
_CONTROL_FIELDS: Final = {f"control.{key.name}": key.name for key in schema.CONTROL.keys}
_AAP2_FIELDS: Final = {"aap2.socket": "socket", "aap2.group": "group"}
_TLS_FIELDS: Final = {f"tls.{name}": name for name in ("certificate", "key", "ca", "crl")}
_SECURITY_FIELDS: Final = {f"security.{name}": name for name in ("link_key", "link_peers", "link_x25519")}
_SIGNING_FIELDS: Final = {"security.signing_key": "key", "security.signing_peers": "peers"}
_ROUTING_FIELDS: Final = {"routing.advertise": "advertise"}
_STREAM_FIELDS: Final = {
    "streams.folder": "folder",
    "streams.quota": "quota_bytes",
    "streams.archive": "window_ms",
}
_RELOADABLE: Final = frozenset(
    f"{table.name}.{key.name}" for table in schema.TABLES for key in table.keys if key.reloadable
)


def compare(old: Configuration, new: Configuration) -> tuple[list[str], list[str]]:
    """Names of what differs: (changes at once, needs a restart). Such as `node.lifetime`, `neighbour dtn://home/`."""
    changed: list[str] = []
    needs_restart: list[str] = []
    for name in (
        *_differing(_NODE_FIELDS, old.node, new.node),
        *_differing(_CONTROL_FIELDS, old.control, new.control),
        *_differing(_AAP2_FIELDS, old.aap2, new.aap2),
        *_differing(_TLS_FIELDS, old.tls, new.tls),
        *_differing(_SECURITY_FIELDS, old.security, new.security),
        *_differing(_SIGNING_FIELDS, old.signing, new.signing),
        *_differing(_ROUTING_FIELDS, old.routing, new.routing),
        *_differing(_STREAM_FIELDS, old.streams, new.streams),
        *_differing(_EMCON_FIELDS, old.emcon, new.emcon),
    ):
        (changed if name in _RELOADABLE else needs_restart).append(name)
    needs_restart += _differing_rows(
        {f"bearer {bearer.name}": bearer for bearer in old.bearers},
        {f"bearer {bearer.name}": bearer for bearer in new.bearers},
    )
    changed += _differing_rows(_neighbours_by_name(old), _neighbours_by_name(new))
    changed += _differing_rows(_routes_by_name(old), _routes_by_name(new))
    changed += _differing_rows(_groups_by_name(old), _groups_by_name(new))
    changed += _differing_rows(_profiles_by_name(old), _profiles_by_name(new))
    return changed, needs_restart


def merge(old: Configuration, new: Configuration) -> Configuration:
    """What a running daemon goes by after a reload: `new` where it can change at once, `old` where it can't.

    Neighbours on a bearer that begins with the restart, and routes by way of them, begin with the restart too.
    """
    bearers = {bearer.name for bearer in old.bearers}
    neighbours = tuple(neighbour for neighbour in new.neighbours if neighbour.bearer in bearers)
    reachable = {(neighbour.node, neighbour.bearer) for neighbour in neighbours}
    nodes = {neighbour.node for neighbour in neighbours}
    routes = []
    for route in new.routes:
        usable = tuple(bearer for bearer in route.bearers if (route.via, bearer) in reachable)
        if route.via in nodes and (usable or not route.bearers):
            routes.append(dataclasses.replace(route, bearers=usable))
    return Configuration(
        node=dataclasses.replace(_merge_fields(_NODE_FIELDS, old.node, new.node), groups=new.node.groups),
        control=old.control,
        bearers=old.bearers,
        neighbours=neighbours,
        routes=tuple(routes),
        aap2=old.aap2,
        tls=new.tls or old.tls,
        security=new.security or old.security,
        signing=new.signing,
        routing=new.routing,
        streams=_merge_fields(_STREAM_FIELDS, old.streams, new.streams),
        emcon=dataclasses.replace(
            _merge_fields(_EMCON_FIELDS, old.emcon, new.emcon),
            profiles={
                name: dataclasses.replace(
                    profile,
                    postures={bearer: posture for bearer, posture in profile.postures.items() if bearer in bearers},
                )
                for name, profile in new.emcon.profiles.items()
            },
        ),
    )


def _merge_fields(fields: Mapping[str, str], old: Any, new: Any) -> Any:
    reloadable = {field: getattr(new, field) for name, field in fields.items() if name in _RELOADABLE}
    return dataclasses.replace(old, **reloadable)


def _differing(fields: Mapping[str, str], old: Any, new: Any) -> list[str]:
    return [name for name, field in fields.items() if getattr(old, field, None) != getattr(new, field, None)]


def _differing_rows(old: Mapping[str, Hashable], new: Mapping[str, Hashable]) -> list[str]:
    """Names in only one of the two, or with something else behind them."""
    return [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]


def _neighbours_by_name(configuration: Configuration) -> dict[str, Hashable]:
    return {f"neighbour {each.node.uri} on {each.bearer}": each for each in configuration.neighbours}


def _routes_by_name(configuration: Configuration) -> dict[str, Hashable]:
    """The order of routes to one destination is an order of preference: it belongs to what they say."""
    named: dict[str, list[Hashable]] = {}
    for route in configuration.routes:
        named.setdefault(f"route {'*' if route.destination is None else route.destination.uri}", []).append(route)
    return {name: tuple(routes) for name, routes in named.items()}


def _groups_by_name(configuration: Configuration) -> dict[str, Hashable]:
    return {f"group {group.endpoint.uri}": group for group in configuration.node.groups}


def _profiles_by_name(configuration: Configuration) -> dict[str, Hashable]:
    return {
        f"emcon.profile.{name}": (
            frozenset(each.postures.items()),
            each.others,
            each.radiating,
            frozenset(each.restrictions.items()),
        )
        for name, each in configuration.emcon.profiles.items()
    }
