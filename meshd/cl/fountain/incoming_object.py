# SPDX-License-Identifier: Apache-2.0
"""One object that is arriving: its symbols until it is decoded, and after that what is to be said about it."""

import enum
from typing import Final

from meshd.cl.fountain.fountain_code import count_symbols, is_symbol_size
from meshd.cl.fountain.frames import Symbol

EXTRA_MAX: Final = 16
"""Symbols beyond K without a result after which it is no object."""
OVERDUE_S: Final = 120.0
"""An object without news for so long is overdue; when its sender was told of that"""
ASKED_MAX: Final = 5
"""so often, each time"""
ASK_S: Final = 5.0
"""later at least, and is heard, it is forgotten: else it would be asked for as long as the node lives."""


class State(enum.Enum):
    """Of an object at its receiver."""

    OPEN = "open"
    DECODING = "decoding"
    """In a thread."""
    WAITING = "waiting"
    """Its bundles wait to be durable, or for their other pieces."""
    TAKEN = "taken"
    REFUSED = "refused"
    PASSED_OVER = "passed over"
    """For others, or malformed: nothing is said about it."""


class IncomingObject:
    """An object by its ID."""

    __slots__ = (
        "asked",
        "asked_at",
        "digest",
        "group",
        "object_bytes",
        "object_id",
        "precedence",
        "reason",
        "required",
        "source_symbols",
        "state",
        "symbol_bytes",
        "symbols",
        "touched_at",
        "transfers",
    )

    def __init__(self, symbol: Symbol, now: float) -> None:
        self.object_id = symbol.object_id
        self.object_bytes = symbol.object_bytes
        self.symbol_bytes = len(symbol.data)
        self.source_symbols = count_symbols(symbol.object_bytes, self.symbol_bytes)
        self.required = self.source_symbols
        """Symbols with which decoding is tried next."""
        self.symbols: dict[int, bytes] = {}
        self.state = State.OPEN
        self.touched_at = now
        self.asked = 0
        self.asked_at = 0.0
        self.digest = b""
        self.group = symbol.group
        """Of its last symbol: nodes that its head does not name may be meant by it."""
        self.precedence = 0
        """Once it was decoded."""
        self.transfers = 0
        """Of its bundles, or of the bundle that it is a piece of: those that were not accepted yet."""
        self.reason = 0
        """Why it is refused, as REFUSE says it; 0: it is not."""

    def is_given_up(self, now: float) -> bool:
        """Asked whenever its sender is told of its need: whether that goes unheard for so long that it has given up."""
        if self.state is not State.OPEN or now < max(self.touched_at + OVERDUE_S, self.asked_at + ASK_S):
            return False
        self.asked, self.asked_at = self.asked + 1, now
        return self.asked > ASKED_MAX

    def take(self, symbol: Symbol, now: float) -> bool:
        """Keep a symbol; True when decoding is to be tried now. One that does not belong to it is passed over."""
        size_bytes = len(symbol.data)
        if size_bytes != self.symbol_bytes or symbol.object_bytes != self.object_bytes:
            return False
        self.touched_at = now
        self.asked = 0
        self.group = symbol.group
        self.symbols[symbol.esi if self.source_symbols > 1 else 0] = symbol.data
        return len(self.symbols) >= self.required

    def decoding_failed(self) -> bool:
        """One more symbol is needed; False: there were far more than enough."""
        self.required = len(self.symbols) + 1
        self.state = State.OPEN
        return self.required <= self.source_symbols + EXTRA_MAX

    @property
    def need(self) -> int:
        """How many more symbols would do; 0: it has enough."""
        return self.required - len(self.symbols) if self.state is State.OPEN else 0


def is_acceptable(symbol: Symbol) -> bool:
    """True when an object may have such a symbol."""
    return is_symbol_size(symbol.object_bytes, len(symbol.data))
