# SPDX-License-Identifier: Apache-2.0
"""Who belongs to the mission: the nodes that the configuration names, and those whose keys are known."""

from meshd.bundle.eid import Eid
from meshd.daemon.radio_state import why_not_signing
from meshd.node.agent import Agent
from meshd.security.link_files import LinkFiles
from meshd.security.signing_peers import SigningFiles
from meshd.settings.configuration import Configuration


def mission_nodes(
    configuration: Configuration, signing: SigningFiles | None, links: LinkFiles | None
) -> frozenset[Eid]:
    """Nodes that are told what became of their bundles: a member that is found by radio may have a link key alone."""
    members = [files.peers for files in (signing, links) if files is not None]
    return named_nodes(configuration).union(*members) - {configuration.node.id}


def named_nodes(configuration: Configuration) -> frozenset[Eid]:
    """Nodes that the configuration names, this one included."""
    named = {configuration.node.id, *(neighbour.node for neighbour in configuration.neighbours)}
    named.update(route.destination for route in configuration.routes if route.destination is not None)
    named.update(route.via for route in configuration.routes)
    named.update(member for group in configuration.node.groups for member in group.members)
    return frozenset(named)


def own_groups(configuration: Configuration) -> list[Eid]:
    """Groups that this node is a member of."""
    node = configuration.node
    return [group.endpoint for group in node.groups if node.id in group.members]


def start_advertising(agent: Agent, configuration: Configuration, signing: SigningFiles | None, now: float) -> None:
    """Advertise with these keys, or say why not; follow it with an event."""
    agent.advertising.configure(signing, "" if signing is not None else why_not_signing(configuration), now)
