# SPDX-License-Identifier: Apache-2.0
"""Puts emission control of one daemon together: policy's shell, its record, and who breaks silence by order."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from meshd.bearer.bearer import Bearer
from meshd.bundle.record import BundleId
from meshd.daemon.announcement import announce_silence
from meshd.daemon.audit_desk import AuditPort
from meshd.daemon.dtn_clock import monotonic_s, wall_ms
from meshd.daemon.emission import EmissionControl
from meshd.daemon.emission_record import EmissionRecord
from meshd.daemon.silence_breaker import SilenceBreaker
from meshd.emcon.breaking import Breaking
from meshd.emcon.gate import EmissionGate
from meshd.link.link_table import Link
from meshd.link.settings import Posture
from meshd.settings.configuration import Configuration

EMCON_STATE_FILE: Final = "emcon.state"


class NodePart(NamedTuple):
    """What emission control needs of the node."""

    configuration: Callable[[], Configuration]
    """As it is now."""
    report: Callable[[str, dict[str, Any]], None]
    links: Callable[[], Iterable[Link]]
    postures_changed: Callable[[dict[str, Posture]], None]
    tell_postures: Callable[[], None]
    is_here: Callable[[BundleId], bool]


def make_emission(
    node: NodePart, gate: EmissionGate, audit: AuditPort, bearers: Mapping[str, Bearer], state_dir: Path
) -> tuple[EmissionControl, EmissionRecord, SilenceBreaker]:
    """`state_dir` is the node's."""
    configuration, breaking = node.configuration(), Breaking()
    settings = configuration.bearers
    record = EmissionRecord(audit, gate, settings, node.report, node.links, breaking)
    emission = EmissionControl(
        configuration.emcon,
        settings,
        gate,
        state_dir / EMCON_STATE_FILE,
        node.postures_changed,
        record.report,
        lambda: wall_ms() if node.configuration().node.clock_trusted else None,
        monotonic_s,
        watch_kernel=configuration.emcon.gate,
        before_opening=record.before_opening,
        announce=partial(announce_silence, bearers),
    )
    breaker = SilenceBreaker(emission, gate, record, breaking, bearers, settings, node.tell_postures, node.is_here)
    return emission, record, breaker
