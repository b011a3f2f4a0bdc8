# SPDX-License-Identifier: Apache-2.0
"""A node with a satellite terminal, a radio and a cable, and a playbook for its policy."""

from typing import Any, TypeVar

from meshd.emcon.commands import Command, WakeAt
from meshd.emcon.events import Booted, Event, OrderGiven
from meshd.emcon.order import Order, OrderState
from meshd.emcon.policy import EmconPolicy
from meshd.emcon.settings import EmconProfile, EmconSettings
from meshd.link.settings import BearerKind, BearerSettings, Posture

OPEN, RX_ONLY = Posture.OPEN, Posture.RX_ONLY
LEASE_S = 6.0
WALL_MS = 1_800_000_000_000


def make_bearer(name: str, radiating: bool, device: str | None = None) -> BearerSettings:
    kind = BearerKind.SATCOM if radiating else BearerKind.TERRESTRIAL
    return BearerSettings(name, kind, device or name, radiating, None, 2_000_000, 0x6D01, 15)


BEARERS = (make_bearer("sat", True, "dev-sat"), make_bearer("los", True), make_bearer("lan", False))
PROFILES = {
    "unrestricted": EmconProfile("unrestricted", {}, OPEN),
    "silent": EmconProfile("silent", {}, RX_ONLY),
    "quiet-radio": EmconProfile("quiet-radio", {"sat": RX_ONLY, "los": RX_ONLY}, OPEN),
    "los-only": EmconProfile("los-only", {"los": OPEN, "lan": OPEN}, RX_ONLY),
}


def make_settings(boot_posture: Posture = RX_ONLY) -> EmconSettings:
    return EmconSettings(profiles=PROFILES, boot_posture=boot_posture, lease_s=LEASE_S, gate=True)


def order_state(profile: str, until_ms: int | None = None, before: str | None = None) -> OrderState:
    order = Order(profile, "uid 0", None, WALL_MS, until_ms)
    return OrderState(order, until_ms is not None, None if before is None else Order(before, "uid 0", None, 1, None))


class Playbook:
    """Policy with a clock; WakeAt goes into `wake_at`, since every event has one."""

    def __init__(self, settings: EmconSettings | None = None) -> None:
        self.policy = EmconPolicy(settings or make_settings(), BEARERS)
        self.now = 100.0
        self.wake_at: float | None = None
        self.orders = 0

    def tell(self, event: Event) -> list[Command]:
        commands = self.policy.handle(event, self.now)
        *others, wake = commands
        assert isinstance(wake, WakeAt)
        self.wake_at = wake.at
        return others

    def boot(
        self, state: OrderState | None, problem: str | None = None, wall_ms: int | None = WALL_MS
    ) -> list[Command]:
        return self.tell(Booted(state, problem, wall_ms))

    def order(
        self, profile: str, for_s: float | None = None, wall_ms: int | None = WALL_MS, **more: Any
    ) -> list[Command]:
        self.orders += 1
        return self.tell(OrderGiven(self.orders, profile, for_s, more.get("by", "uid 0"), more.get("reason"), wall_ms))


Kind = TypeVar("Kind")


def only(commands: list[Command], kind: type[Kind]) -> list[Kind]:
    return [command for command in commands if isinstance(command, kind)]
