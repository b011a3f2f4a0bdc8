# SPDX-License-Identifier: Apache-2.0
"""An EMCON order, the one that comes back after it, and their form in the state file.

The file is one line `meshd-emcon 2 SHA256` and a JSON object, so that a person can read what holds and a torn or edited
file is told from a valid one. Version 1 had no schedule. Reading and writing files is for the shell.
"""

import enum
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Self

from meshd.base.errors import MeshdError
from meshd.emcon.schedule import Schedule
from meshd.emcon.schedule_record import schedule_as_map, schedule_from_map

STATE_SIZE_MAX_BYTES: Final = 64 * 1024
"""A longer state file is not ours."""
FOR_MAX_S: Final = 366 * 86400.0
NAME_SIZE_MAX: Final = 256
REASON_SIZE_MAX: Final = 1024
SCHEDULED: Final = "scheduled"
"""The profile of an order that leaves it to the schedule."""
_MAGIC: Final = "meshd-emcon 2"
_MAGIC_UNSCHEDULED: Final = "meshd-emcon 1"
_STATE_FIELDS: Final = {"order", "is_bounded", "before"}
_FIELDS: Final = {"profile", "by", "reason", "since_ms", "until_ms"}


class StateError(MeshdError):
    """The state file is torn, edited or not ours."""


class Source(enum.Enum):
    """Where the postures in force come from."""

    ORDER = "order"
    BOOT = "boot"


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody ordered. Wall times are Unix milliseconds; None: the clock was unknown."""

    profile: str
    by: str
    reason: str | None
    since_ms: int | None
    until_ms: int | None
    """Of an order with an end, where the clock was known."""


@dataclass(frozen=True, slots=True)
class OrderState:
    """What is persisted: the order in force and, where it has an end, the one that comes back."""

    order: Order
    is_bounded: bool
    before: Order | None
    """None with `is_bounded`: what holds at boot comes back."""
    schedule: Schedule | None = None
    """The last one that was ordered; it holds where an order says so."""

    @property
    def is_scheduled(self) -> bool:
        """Whether the schedule holds now, or comes back."""
        return any(each is not None and each.profile == SCHEDULED for each in (self.order, self.before))

    @property
    def base(self) -> Order | None:
        """What comes back after the next order with an end: a second one of that sort brings back the same."""
        return self.before if self.is_bounded else self.order

    def after(self) -> Self | None:
        """What is persisted once an order with an end is over."""
        return None if self.before is None else type(self)(self.before, False, None, self.schedule)


def left_s(order: Order, wall_ms: int | None) -> float | None:
    """How long an order still holds; None: nobody can tell, since the clock is unknown or runs behind the order."""
    if wall_ms is None or order.until_ms is None or order.since_ms is None or wall_ms < order.since_ms:
        return None
    return (order.until_ms - wall_ms) / 1000


def make_order(profile: str, by: str, reason: str | None, wall_ms: int | None, for_s: float | None) -> Order:
    """One that begins now."""
    until_ms = None if for_s is None or wall_ms is None else wall_ms + round(for_s * 1000)
    return Order(profile, by, reason, wall_ms, until_ms)


def wrong_with_order(for_s: float | None, by: str, reason: str | None) -> str | None:
    """Why an order can't be taken as it was given; None: it can."""
    if for_s is not None and not 0 < for_s <= FOR_MAX_S:
        return f"an order can't hold for {for_s} seconds: give more than 0 and at most {FOR_MAX_S:.0f}"
    if reason is not None and len(reason) > REASON_SIZE_MAX:
        return f"the reason is longer than {REASON_SIZE_MAX} characters"
    if len(by) > NAME_SIZE_MAX:
        return f"the name of who orders is longer than {NAME_SIZE_MAX} characters"
    return None


def encode_state(state: OrderState) -> bytes:
    """For the state file."""
    body = json.dumps(
        {
            "order": _as_map(state.order),
            "is_bounded": state.is_bounded,
            "before": None if state.before is None else _as_map(state.before),
            "schedule": None if state.schedule is None else schedule_as_map(state.schedule),
        },
        indent=1,
        sort_keys=True,
    ).encode()
    return f"{_MAGIC} {hashlib.sha256(body).hexdigest()}\n".encode() + body + b"\n"


def decode_state_untrusted(data: bytes) -> OrderState:
    """Read a state file's content.

    Errors: StateError, which says what is wrong with it.
    """
    if len(data) > STATE_SIZE_MAX_BYTES:
        raise StateError(f"it is longer than {STATE_SIZE_MAX_BYTES} bytes")
    head, _, body = data.partition(b"\n")
    body = body.removesuffix(b"\n")
    digest = hashlib.sha256(body).hexdigest()
    is_scheduling = head == f"{_MAGIC} {digest}".encode()
    if not is_scheduling and head != f"{_MAGIC_UNSCHEDULED} {digest}".encode():
        raise StateError("its checksum does not match: it is torn or was edited")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise StateError("it is not JSON") from exc
    if not isinstance(value, dict) or set(value) != _STATE_FIELDS | ({"schedule"} if is_scheduling else set()):
        raise StateError("it does not have the fields of a state file")
    if not isinstance(value["is_bounded"], bool):
        raise StateError("`is_bounded` is not true or false")
    before = None if value["before"] is None else _as_order(value["before"])
    state = OrderState(_as_order(value["order"]), value["is_bounded"], before, _as_schedule(value.get("schedule")))
    if state.is_scheduled and state.schedule is None:
        raise StateError("it says that the schedule holds, and has none")
    return state


def _as_schedule(value: Any) -> Schedule | None:
    if value is None:
        return None
    schedule = schedule_from_map(value)
    if schedule is None:
        raise StateError("its schedule is not valid")
    return schedule


def _as_map(order: Order) -> dict[str, str | int | None]:
    return {
        "profile": order.profile,
        "by": order.by,
        "reason": order.reason,
        "since_ms": order.since_ms,
        "until_ms": order.until_ms,
    }


def _as_order(value: Any) -> Order:
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise StateError("an order does not have its fields")
    profile, by, reason = value["profile"], value["by"], value["reason"]
    if not isinstance(profile, str) or not isinstance(by, str):
        raise StateError("an order has no profile or no giver")
    if reason is not None and not isinstance(reason, str):
        raise StateError("an order's reason is not text")
    return Order(profile, by, reason, _as_time(value["since_ms"]), _as_time(value["until_ms"]))


def _as_time(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise StateError("an order's time is not a number")
