# SPDX-License-Identifier: Apache-2.0
"""Helpers for tests of the fountain bearer on the loopback device: members, their keys, and what survives a restart."""

import dataclasses
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from meshd.base.errors import MeshdError
from meshd.bearer.fountain import FountainBearer
from meshd.bundle.codec import build
from meshd.bundle.eid import Eid
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleId
from meshd.bundle.scan import scan_untrusted
from meshd.bundle.supersession import Supersession
from meshd.link.settings import BearerSettings, ConvergenceLayer, NeighbourSettings, RadioSettings
from meshd.node.events import Event
from meshd.security.boot_number import BootNumberError, DurableBootNumber
from meshd.security.link_files import LinkFiles
from meshd.security.link_keys import LinkKeys
from meshd.security.replay_window import Mark
from tests.unit.bearer.tcp_peers import ALPHA, BRAVO, CHARLIE, Recorder, make_settings

DTN_MS = 820_000_000_000
KEYS = LinkKeys({1: b"\x01" * 32}, 1)
PRIVATE = {node: X25519PrivateKey.generate() for node in (ALPHA, BRAVO, CHARLIE)}
PUBLIC = {node: key.public_key().public_bytes_raw() for node, key in PRIVATE.items()}
RATE_BPS = 50_000_000


class MemoryState:
    """What survives a restart, without a disk."""

    def __init__(self, boot: int | None = 1) -> None:
        self.boot = boot
        self.marks: dict[Eid, Mark] = {}
        self.writes = 0
        self.is_full = False

    def take_boot_number(self) -> DurableBootNumber:
        if self.boot is None:
            raise BootNumberError("the boot number is lost and the clock is not set")
        return DurableBootNumber(self.boot)

    def read_marks(self, bearer: str) -> dict[Eid, Mark]:
        assert bearer == "lan0"
        return dict(self.marks)

    def write_marks(self, bearer: str, marks: Mapping[Eid, Mark]) -> None:
        assert bearer == "lan0"
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.marks.update(marks)
        self.writes += 1


class Entries:
    """Neighbour entries, without a kernel."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.pinned: dict[str, str | None] = {}
        self.problem: str | None = None

    def pin(self, device: str, host: str, mac: str | None) -> bool:
        assert device == "lo"
        if self.problem is not None:
            raise MeshdError(self.problem)
        if mac is None and host not in self.known:
            return False
        self.pinned[host] = mac
        return True

    def release(self, device: str, host: str) -> None:
        assert device == "lo"
        del self.pinned[host]


def radio_settings(rate_bps: int = RATE_BPS, **radio: Any) -> BearerSettings:
    """A bearer on the loopback device with a short delay."""
    values: dict[str, Any] = {"delay_ms": 2, "mtu_bytes": 1500}
    settings = make_settings(None, mark=0, rate_bps=rate_bps)
    return dataclasses.replace(settings, radio=RadioSettings(**(values | radio)))


def fountain_neighbour(node: Eid, address: str | None, **changes: Any) -> NeighbourSettings:
    return NeighbourSettings(node, "lan0", address, cl=ConvergenceLayer.FOUNTAIN, **changes)


class Station:
    """One node's end: its bearer, what it says, and what it keeps."""

    def __init__(
        self,
        node: Eid,
        settings: BearerSettings,
        neighbours: Sequence[NeighbourSettings],
        state: MemoryState | None = None,
        files: LinkFiles | None = None,
    ) -> None:
        self.node = node
        self.told = Recorder()
        self.state = state or MemoryState()
        self.entries = Entries()
        self.bearer = make_fountain_part(
            node, settings, neighbours, self.told, self.told.dispatch, files, self.state, self.entries
        )


def make_fountain_part(
    node: Eid,
    settings: BearerSettings,
    neighbours: Sequence[NeighbourSettings],
    told: Recorder,
    dispatch: Callable[[Event], None],
    files: LinkFiles | None = None,
    state: MemoryState | None = None,
    entries: Entries | None = None,
) -> FountainBearer:
    """The layer alone."""
    return FountainBearer(
        settings,
        neighbours,
        node,
        dispatch,
        told.report,
        random.Random(node.uri),
        files or link_files(node),
        state or MemoryState(),
        entries or Entries(),
        lambda: DTN_MS,
    )


def link_files(node: Eid, keys: LinkKeys = KEYS, *, without: Eid | None = None) -> LinkFiles:
    """As `meshctl pki issue` would have made them."""
    return LinkFiles(keys, PRIVATE[node], {each: key for each, key in PUBLIC.items() if each != without})


def free_ports(count: int, host: str = "127.0.0.1") -> list[str]:
    """Addresses at which nobody listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(count)]
    for sock in sockets:
        sock.bind((host, 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for port in ports]


def make_pair(host: str = "127.0.0.1", rate_bps: int = RATE_BPS, **radio: Any) -> tuple[Station, Station]:
    """Alpha and Bravo, each knowing where the other is."""
    here, there = free_ports(2, host)
    return (
        Station(ALPHA, radio_settings(rate_bps, listen=here, **radio), [fountain_neighbour(BRAVO, there)]),
        Station(BRAVO, radio_settings(rate_bps, listen=there, **radio), [fountain_neighbour(ALPHA, here)]),
    )


def make_bundle(
    sequence: int,
    size_bytes: int = 1000,
    precedence: Precedence = Precedence.ROUTINE,
    lifetime_ms: int = 3_600_000,
    supersession: Supersession | None = None,
) -> tuple[BundleId, list[bytes]]:
    """A row to send: a real bundle in two chunks."""
    payload = random.Random(sequence).randbytes(size_bytes)
    data = build(
        source=ALPHA,
        destination=BRAVO,
        report_to=ALPHA,
        flags=0,
        time_ms=DTN_MS - 1000,
        sequence=sequence,
        lifetime_ms=lifetime_ms,
        payload=payload,
        precedence=precedence,
        supersession=supersession,
    )
    return scan_untrusted(data).id, [data[:20], data[20:]]
