# SPDX-License-Identifier: Apache-2.0
"""DTN time (RFC 9171 section 4.2.6) and creation timestamps (section 4.2.7).

A creation timestamp may never be given twice: it names a bundle. The clock can't promise that (it may be missing, set
back, or stand still while the daemon restarts within a millisecond), so the sequence number does: it only grows, over
restarts too, and is never reset when time advances, which section 4.2.7 allows. To keep that cheap, numbers are
reserved in blocks: a small note with the end of the block is stored *before* a number of the block is used. After a
crash the rest of the block is lost, and numbering goes on behind it.
"""

from typing import Final

from meshd.base.errors import StoreError
from meshd.bundle import cbor
from meshd.bundle.errors import BundleError

DTN_EPOCH_UNIX_S: Final = 946_684_800
"""2000-01-01 00:00:00 UTC in Unix time; neither time counts leap seconds."""

SEQUENCE_BLOCK: Final = 1000
"""Sequence numbers reserved by one note."""

_NOTE_VERSION: Final = 1


def dtn_ms_from_unix(unix_s: float) -> int:
    """DTN time in ms of a Unix time in seconds; 0 ("unknown") for a time before the DTN epoch."""
    return max(0, int((unix_s - DTN_EPOCH_UNIX_S) * 1000))


def unix_from_dtn_ms(dtn_ms: int) -> float:
    """Unix time in seconds of a DTN time in ms."""
    return dtn_ms / 1000 + DTN_EPOCH_UNIX_S


class CreationClock:
    """Gives creation timestamps; each is unique among all that were ever given on this state directory.

    The owner calls `next`, and whenever `reservation` then returns a note, stores it durably before (or in the same
    ordered log ahead of) the bundle that carries the timestamp.
    """

    def __init__(self, note: bytes | None) -> None:
        """Go on behind the last reserved block.

        Args:
            note: the last one that `reservation` returned, as the store holds it; None on a new state directory.

        Errors:
            StoreError: this is no such note; going on could give a timestamp twice.
        """
        self._next_sequence = 0 if note is None else _decode_note(note)
        self._reserved_end = self._next_sequence
        self._note: bytes | None = None

    def next(self, now_dtn_ms: int | None) -> tuple[int, int]:
        """The next creation timestamp: (creation time in DTN ms, sequence number).

        Args:
            now_dtn_ms: None when the clock is not to be trusted; the creation time is 0 then.
        """
        sequence = self._next_sequence
        if sequence >= self._reserved_end:
            self._reserved_end = sequence + SEQUENCE_BLOCK
            self._note = _encode_note(self._reserved_end)
        self._next_sequence = sequence + 1
        return (0 if now_dtn_ms is None else max(0, now_dtn_ms)), sequence

    def reservation(self) -> bytes | None:
        """A note to be stored before the last timestamp is used, once; None when there is nothing new to store."""
        note, self._note = self._note, None
        return note

    def reserve_again(self) -> None:
        """The last note could not be stored: `reservation` returns it once more."""
        self._note = _encode_note(self._reserved_end)


def _encode_note(reserved_end: int) -> bytes:
    return cbor.encode_array_head(2) + cbor.encode_uint(_NOTE_VERSION) + cbor.encode_uint(reserved_end)


def _decode_note(note: bytes) -> int:
    try:
        length, pos = cbor.read_array_header(note, 0)
        version, pos = cbor.read_uint(note, pos)
        reserved_end, pos = cbor.read_uint(note, pos)
    except BundleError as error:
        raise StoreError(f"the stored note of creation timestamps is damaged: {error}") from error
    if (length, version, pos) != (2, _NOTE_VERSION, len(note)):
        raise StoreError("the stored note of creation timestamps is of a form unknown to this version of meshd")
    return reserved_end
