# SPDX-License-Identifier: Apache-2.0
"""A transfer of the peer whose end has not come yet, and the bytes of it that are here (RFC 9174 section 5.2.2)."""

from typing import Final

PIECE_MIN_BYTES: Final = 16 * 1024
"""Smaller pieces of a transfer are gathered, so that a peer can't make us hold many."""


class Arriving:
    """A transfer whose END has not come yet."""

    __slots__ = (
        "_gathered",
        "_pieces",
        "announced_bytes",
        "held_bytes",
        "is_passed_on",
        "is_refused",
        "received_bytes",
        "transfer_id",
    )

    def __init__(self, transfer_id: int, announced_bytes: int | None) -> None:
        self.transfer_id = transfer_id
        self.announced_bytes = announced_bytes
        self.received_bytes = 0
        """Of the segments begun so far."""
        self.is_refused = False
        self.is_passed_on = False
        """It is given out in pieces."""
        self.held_bytes = 0
        """Here at the moment."""
        self._pieces: list[bytes] = []
        self._gathered = bytearray()

    def add(self, piece: bytes) -> None:
        """The next bytes of it."""
        self.held_bytes += len(piece)
        if len(piece) < PIECE_MIN_BYTES:
            self._gathered += piece
            return
        self._settle()
        self._pieces.append(piece)

    def join(self) -> bytes:
        """The whole, without a copy where it came in one piece."""
        self._settle()
        return b"".join(self._pieces)

    def take(self) -> bytes:
        """What is here; the rest comes later."""
        piece = self.join()
        self._pieces, self.held_bytes = [], 0
        return piece

    def drop(self) -> None:
        """It is refused: nothing of it is kept."""
        self.is_refused = True
        self._pieces, self._gathered, self.held_bytes = [], bytearray(), 0

    def _settle(self) -> None:
        if self._gathered:
            self._pieces.append(bytes(self._gathered))
            self._gathered = bytearray()
