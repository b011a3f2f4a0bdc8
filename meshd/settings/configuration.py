# SPDX-License-Identifier: Apache-2.0
"""A whole configuration: the settings types that the core packages own, side by side."""

from dataclasses import dataclass, field

from meshd.control.settings import Aap2Settings, ControlSettings
from meshd.emcon.settings import EmconSettings
from meshd.link.settings import BearerSettings, NeighbourSettings
from meshd.node.settings import NodeSettings
from meshd.routing.settings import RouteSettings, RoutingSettings
from meshd.security.settings import LinkSecuritySettings, SigningSettings, TlsSettings
from meshd.stream.settings import StreamSettings


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one meshd.toml says, checked: everything in it fits together."""

    node: NodeSettings
    control: ControlSettings
    bearers: tuple[BearerSettings, ...]
    neighbours: tuple[NeighbourSettings, ...]
    routes: tuple[RouteSettings, ...]
    emcon: EmconSettings
    streams: StreamSettings
    aap2: Aap2Settings | None = None
    """None: applications of the AAP 2.0 kind are not served."""
    tls: TlsSettings | None = None
    """None: this node has no certificate, and no bearer uses TLS."""
    security: LinkSecuritySettings | None = None
    """None: this node has no keys for sealed datagrams, and no bearer carries the fountain layer."""
    signing: SigningSettings | None = None
    """None: this node has no key to sign with, and knows nobody's."""
    routing: RoutingSettings = field(default_factory=RoutingSettings)
