# SPDX-License-Identifier: Apache-2.0
"""An EMCON order, the one that comes back after it, and their form in the state file.

The file is one line `meshd-emcon 1 SHA256` and a JSON object, so that a person can read what holds and a torn or edited
file is told from a valid one. Reading and writing files is for the shell.
"""

import enum
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Self

from meshd.base.errors import MeshdError

STATE_SIZE_MAX_BYTES: Final = 64 * 1024
"""A longer state file is not ours."""
FOR_MAX_S: Final = 366 * 86400.0
NAME_SIZE_MAX: Final = 256
REASON_SIZE_MAX: Final = 1024
_MAGIC: Final = "meshd-emcon 1"
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

    def after(self) -> Self | None:
        """What is persisted once an order with an end is over."""
        return None if self.before is None else type(self)(self.before, is_bounded=False, before=None)


def left_s(order: Order, wall_ms: int | None) -> float | None:
    """How long an order still holds; None: nobody can tell, since the clock is unknown or runs behind the order."""
    if wall_ms is None or order.until_ms is None or order.since_ms is None or wall_ms < order.since_ms:
        return None
    return (order.until_ms - wall_ms) / 1000


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
    if head != f"{_MAGIC} {hashlib.sha256(body).hexdigest()}".encode():
        raise StateError("its checksum does not match: it is torn or was edited")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise StateError("it is not JSON") from exc
    if not isinstance(value, dict) or set(value) != {"order", "is_bounded", "before"}:
        raise StateError("it does not have the fields of a state file")
    if not isinstance(value["is_bounded"], bool):
        raise StateError("`is_bounded` is not true or false")
    before = None if value["before"] is None else _as_order(value["before"])
    return OrderState(_as_order(value["order"]), value["is_bounded"], before)


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
