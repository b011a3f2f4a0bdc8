# SPDX-License-Identifier: Apache-2.0
"""The one table of everything that may stand in meshd.toml.

Reading, checking, `meshd --check-config`, the decision what SIGHUP may change, and the tests that hold the manual and
the annotated example to it: all go by this table. What must fit together across keys stands in `cross_check.py`.
"""

from dataclasses import dataclass
from typing import Any, Final

from meshd.base.limits import INLINE_SIZE_MAX_BYTES, LIFETIME_MAX_MS
from meshd.bundle.precedence import Precedence
from meshd.link.settings import BearerKind, ConvergenceLayer, Direction, HookFailure, Posture, TlsPolicy
from meshd.node.settings import ReportKind
from meshd.settings import value
from meshd.settings.regime import regime

REQUIRED: Final = object()
"""Stands for the default of a key that has none."""

BEARERS_MAX: Final = 64
NEIGHBOURS_MAX: Final = 1024
ROUTES_MAX: Final = 4096
GROUPS_MAX: Final = 256
PROFILES_MAX: Final = 64

DEFAULT_MARK: Final = 0x6D01
"""SO_MARK of meshd's own traffic."""

MTU_MIN_BYTES: Final = 576
"""Of an IP packet that every host takes (RFC 791)."""

BOOT_POSTURES: Final = {posture.value: posture for posture in (Posture.OPEN, Posture.RX_ONLY, Posture.OFF)}
"""RESTRICTED needs limits, which a profile gives."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table."""

    name: str
    read: value.Reader
    default: Any = REQUIRED
    """As it would be written in the file; None: depends on other keys, or on nothing being there."""
    reloadable: bool = False
    """True when SIGHUP changes it; False when it needs a restart."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table, array of tables (`[[name]]`), or family of tables (`[name.ANY]`)."""

    name: str
    keys: tuple[Key, ...]
    is_array: bool = False
    tables_max: int = 1
    any_name: value.Reader | None = None
    """Set for a family: reads the name that stands for ANY."""
    other_keys: value.Reader | None = None
    """Set where keys beyond `keys` are allowed (they are names of bearers): reads their values."""


NODE: Final = Table(
    "node",
    (
        Key("id", value.node_id),
        Key("state_dir", value.absolute_path, "/var/lib/meshd"),
        Key("clock_trusted", value.boolean, True),
        Key("lifetime", value.duration_ms(1000, LIFETIME_MAX_MS), "24 h", reloadable=True),
        Key("lifetime_max", value.duration_ms(1000, LIFETIME_MAX_MS), "30 d", reloadable=True),
        Key(
            "status_reports",
            value.choices({kind.value: kind for kind in ReportKind}),
            ["delivery"],
            reloadable=True,
        ),
    ),
)
STORE: Final = Table(
    "store",
    (
        Key("quota", value.size_bytes(INLINE_SIZE_MAX_BYTES, 1 << 50), "8 GiB", reloadable=True),
        Key("bundles_max", value.whole_number(1, 10_000_000), 1_000_000, reloadable=True),
        Key("known_max", value.whole_number(1, 100_000_000), 4_000_000, reloadable=True),
    ),
)
CONTROL: Final = Table(
    "control",
    (
        Key("socket", value.socket_path, "/run/meshd/control.sock"),
        Key("group", value.name, None),
        Key("viewer_group", value.name, None),
        Key("operator_group", value.name, None),
        Key("security_group", value.name, None),
        Key("admin_group", value.name, None),
        Key("break_group", value.name, None),
    ),
)
AAP2: Final = Table(
    "aap2",
    (
        Key("socket", value.socket_path, None),
        Key("group", value.name, None),
    ),
)
TLS: Final = Table(
    "tls",
    (
        Key("certificate", value.absolute_path, None, reloadable=True),
        Key("key", value.absolute_path, None, reloadable=True),
        Key("ca", value.absolute_path, None, reloadable=True),
        Key("crl", value.absolute_path, None, reloadable=True),
    ),
)
SECURITY: Final = Table(
    "security",
    (
        Key("link_key", value.absolute_path, None, reloadable=True),
        Key("link_peers", value.absolute_path, None, reloadable=True),
        Key("link_x25519", value.absolute_path, None, reloadable=True),
        Key("signing_key", value.absolute_path, None, reloadable=True),
        Key("signing_peers", value.absolute_path, None, reloadable=True),
    ),
)
BEARER: Final = Table(
    "bearer",
    (
        Key("name", value.name),
        Key("kind", value.choice({kind.value: kind for kind in BearerKind})),
        Key("device", value.device, None),
        Key("radiating", value.boolean, None),
        Key("listen", value.listen_address, None),
        Key("mtcp_listen", value.listen_address, None),
        Key("rate", value.rate_or_auto(1, 10**12)),
        Key("rate_min", value.rate_bps(1000, 10**12), None),
        Key("rate_max", value.rate_bps(1000, 10**12), None),
        Key("mark", value.whole_number(0, 0xFFFFFFFF), DEFAULT_MARK),
        Key("keepalive", value.duration_s(0, 65535), None),
        Key("tls", value.choice({policy.value: policy for policy in TlsPolicy}), None),
        Key("congestion", value.name, None),
        Key("session_idle", value.duration_s(0, 86400), "10 s"),
        Key("link_idle", value.duration_s(0, 86400), "0 s"),
        Key("fountain_listen", value.listen_address, None),
        Key("fountain_group", value.group_address, None),
        Key("mtu", value.size_bytes(MTU_MIN_BYTES, 65535), "1500 B"),
        Key("direction", value.choice({each.value: each for each in Direction}), "both"),
        Key("delay", value.duration_ms(0, 3_600_000), None),
        Key("modem_buffer", value.size_bytes(MTU_MIN_BYTES, 1 << 30), None),
        Key("blind_overhead", value.percentage(0, 400), "40 %"),
        Key("emcon_rtc", value.whole_number(0, 100), 2),
        Key("emcon_rti", value.duration_s(1, 86400), "60 s"),
        Key("ack_budget", value.size_bytes(0, 1 << 20), "4 KiB"),
        Key("discovery", value.boolean, None),
        Key("mdns", value.boolean, False),
        Key("management", value.stations, []),
        Key("assured", value.boolean, False),
        Key("hook", value.command, None),
        Key("hook_timeout", value.duration_s(1, 60), "5 s"),
        Key("hook_failure", value.choice({each.value: each for each in HookFailure}), "alarm"),
        Key("dlep", value.dial_address, None),
        Key("dlep_heartbeat", value.duration_s(1, 3600), "10 s"),
    ),
    is_array=True,
    tables_max=BEARERS_MAX,
)
NEIGHBOUR: Final = Table(
    "neighbour",
    (
        Key("node", value.node_id, reloadable=True),
        Key("bearer", value.name, reloadable=True),
        Key("address", value.dial_address, None, reloadable=True),
        Key(
            "precedence_max",
            value.choice({each.name: each for each in Precedence}),
            "OVERRIDE",
            reloadable=True,
        ),
        Key("cl", value.choice({cl.value: cl for cl in ConvergenceLayer}), "tcpclv4", reloadable=True),
        Key("mac", value.hardware_address, None, reloadable=True),
        Key("blind", value.boolean, False, reloadable=True),
    ),
    is_array=True,
    tables_max=NEIGHBOURS_MAX,
)
ROUTE: Final = Table(
    "route",
    (
        Key("destination", value.destination, reloadable=True),
        Key("via", value.node_id, reloadable=True),
        Key("bearers", value.names, [], reloadable=True),
    ),
    is_array=True,
    tables_max=ROUTES_MAX,
)
GROUP: Final = Table(
    "group",
    (
        Key("endpoint", value.group_endpoint, reloadable=True),
        Key("members", value.node_ids, reloadable=True),
    ),
    is_array=True,
    tables_max=GROUPS_MAX,
)
ROUTING: Final = Table(
    "routing",
    (Key("advertise", value.boolean, True, reloadable=True),),
)
STREAMS: Final = Table(
    "streams",
    (
        Key("folder", value.absolute_path, None),
        Key("quota", value.size_bytes(INLINE_SIZE_MAX_BYTES, 1 << 50), "8 GiB", reloadable=True),
        Key("archive", value.duration_ms(60_000, LIFETIME_MAX_MS), "24 h", reloadable=True),
    ),
)
EMCON: Final = Table(
    "emcon",
    (
        Key("boot_posture", value.choice(BOOT_POSTURES), "RX_ONLY"),
        Key("lease", value.duration_s(1, 60), "5 s"),
        Key("gate", value.boolean, True),
        Key("aliases", value.aliases, {}, reloadable=True),
    ),
)
EMCON_PROFILE: Final = Table(
    "emcon.profile",
    (
        Key("others", regime, "OPEN", reloadable=True),
        Key("radiating", regime, None, reloadable=True),
    ),
    tables_max=PROFILES_MAX,
    any_name=value.name,
    other_keys=regime,
)

TABLES: Final = (
    NODE,
    STORE,
    CONTROL,
    AAP2,
    TLS,
    SECURITY,
    BEARER,
    NEIGHBOUR,
    ROUTING,
    ROUTE,
    GROUP,
    STREAMS,
    EMCON,
    EMCON_PROFILE,
)
