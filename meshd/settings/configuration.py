# SPDX-License-Identifier: Apache-2.0
"""A whole configuration: the settings types that the core packages own, side by side."""

from dataclasses import dataclass

from meshd.control.settings import Aap2Settings, ControlSettings
from meshd.emcon.settings import EmconSettings
from meshd.link.settings import BearerSettings, NeighbourSettings
from meshd.node.settings import NodeSettings
from meshd.routing.settings import RouteSettings
from meshd.security.settings import LinkSecuritySettings, TlsSettings


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one meshd.toml says, checked: everything in it fits together."""

    node: NodeSettings
    control: ControlSettings
    bearers: tuple[BearerSettings, ...]
    neighbours: tuple[NeighbourSettings, ...]
    routes: tuple[RouteSettings, ...]
    emcon: EmconSettings
    aap2: Aap2Settings | None = None
    """None: applications of the AAP 2.0 kind are not served."""
    tls: TlsSettings | None = None
    """None: this node has no certificate, and no bearer uses TLS."""
    security: LinkSecuritySettings | None = None
    """None: this node has no keys for sealed datagrams, and no bearer carries the fountain layer."""
