# SPDX-License-Identifier: Apache-2.0
"""The receiving half of a TCPCLv4 session: segments to transfers, and what is owed for them (RFC 9174 section 5.2).

The last segment of a transfer is acknowledged only when the owner says so, since its bundle has to be durable first;
the others at once. A transfer that fits one segment is cut from the bytes as they came, with one copy. Of a large one
the pieces are kept as they were read: where the owner reads no more than `wanted_bytes`, a transfer that comes in one
piece is never copied. What arrived and is not answered yet is bounded: above it `is_full` asks the owner to read no
more. A transfer that is announced, or grows, beyond `inline_max_bytes` is passed on in pieces and never whole here.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from meshd.cl.tcpclv4.arriving import Arriving
from meshd.cl.tcpclv4.events import PieceEvent, TransferBegun, TransferEnded, TransferPiece, TransferRow
from meshd.cl.tcpclv4.extensions import EXTENSIONS_MAX_BYTES, TransferItems, pull_transfer_items_untrusted
from meshd.cl.tcpclv4.messages import (
    ACK,
    END,
    SEGMENT_NEXT,
    SEGMENT_START,
    SEGMENT_WHOLE,
    START,
    WHOLE,
    MessageType,
    RefuseReason,
    RejectReason,
    SessionFault,
    TermReason,
    pack_refuse,
    pack_reject,
)
from meshd.cl.tcpclv4.settings import SessionSettings

UNANSWERED_MAX: Final = 65536
"""Transfers that arrived and wait to be acknowledged or refused."""
UNANSWERED_MAX_BYTES: Final = 32 * 1024 * 1024
"""The same in bytes: what a store slower than the link makes us hold."""
UNWRITTEN_MAX_BYTES: Final = 8 * 1024 * 1024
"""Pieces passed on and not released: what a store slower than the link makes us hold of large transfers."""
STREAM_MIN_BYTES: Final = 64 * 1024
"""From this size on a segment is received piece by piece; a smaller one waits until it is whole."""
STRAYS_MAX: Final = 16
"""Segments outside of any transfer, after which the session ends."""

_SEGMENT = int(MessageType.XFER_SEGMENT)
_ACK = int(MessageType.XFER_ACK)
_NO_ITEMS: Final = TransferItems(None, "")


class _Header(NamedTuple):
    flags: int
    transfer_id: int
    items: TransferItems
    size_bytes: int
    body: int
    """Position of the data."""


class Incoming:
    """Transfers from the peer. `answers` is the session's list of control messages to send."""

    def __init__(self, settings: SessionSettings, answers: list[bytes]) -> None:
        self._segment_mru_bytes = settings.segment_mru_bytes
        self._transfer_mru_bytes = settings.transfer_mru_bytes
        self._inline_max_bytes = settings.inline_max_bytes
        self._piece_bytes = settings.piece_bytes
        self._answers = answers
        self._arriving: Arriving | None = None
        self._segment_flags = 0
        self._expects_large = False
        """The last thing that came was a large segment: such a one will follow."""
        self._unanswered: dict[int, int] = {}  # transfer ID: size << 8 | flags of the END segment, in order of arrival
        self._unanswered_bytes = 0
        self._refusals: dict[int, bytes] = {}
        self._strays = 0
        self._unwritten: dict[int, int] = {}
        """Of transfers that are given out in pieces and have no answer yet, what was not released."""
        self._unwritten_bytes = 0
        self.pieces: list[PieceEvent] = []
        """Of large transfers, since the owner last took them."""
        self.rows: list[TransferRow] = []
        """Whole transfers since the owner last took them."""
        self.remaining_bytes = 0
        """Of the segment whose data is coming; the header is behind us."""
        self.is_ending = False
        """New transfers are refused (section 6.1)."""

    @property
    def is_full(self) -> bool:
        """True while so much waits for an answer that nothing more should be read."""
        return (
            self._unanswered_bytes >= UNANSWERED_MAX_BYTES
            or len(self._unanswered) >= UNANSWERED_MAX
            or self._unwritten_bytes >= UNWRITTEN_MAX_BYTES
        )

    @property
    def wanted_bytes(self) -> int | None:
        """Read at most so much, so that a large segment's data comes in pieces of its own; None: any amount."""
        if self.remaining_bytes:
            return self.remaining_bytes
        return SEGMENT_WHOLE.size if self._expects_large else None

    @property
    def is_idle(self) -> bool:
        """True when no transfer is under way and everything has its answer."""
        return (self._arriving is None or self._arriving.is_refused) and not self._unanswered

    def take_segments(self, data: bytes, pos: int) -> int:
        """Take whole transfers of one segment, as many as there are, then at most one of another kind.

        Returns:
            The position after what was taken; `pos` when the message there is not complete.

        Errors:
            SessionFault: the peer broke the protocol.
        """
        begin = pos
        self._expects_large = False
        if self._arriving is None and not self.is_ending:
            unpack, head_bytes = SEGMENT_WHOLE.unpack_from, SEGMENT_WHOLE.size
            mru = min(self._segment_mru_bytes, self._transfer_mru_bytes, self._inline_max_bytes)
            unanswered, append = self._unanswered, self.rows.append
            end, taken_bytes = len(data), 0
            while end - pos >= head_bytes:
                kind, flags, transfer_id, items_bytes, size = unpack(data, pos)
                start = pos + head_bytes
                stop = start + size
                if (
                    flags != WHOLE
                    or kind != _SEGMENT
                    or items_bytes
                    or stop > end
                    or size > mru
                    or transfer_id in unanswered
                ):
                    break
                append(TransferRow(transfer_id, data[start:stop]))
                unanswered[transfer_id] = size << 8 | WHOLE
                taken_bytes += size
                pos = stop
            self._unanswered_bytes += taken_bytes
        return pos if pos > begin else self._take_segment(data, pos)

    def _take_segment(self, data: bytes, pos: int) -> int:
        """Take one segment of any kind, or as much of it as is there."""
        header = _pull_header_untrusted(data, pos)
        if header is None:
            return pos
        if header.size_bytes > self._segment_mru_bytes:
            text = f"a segment of {header.size_bytes} bytes is above our segment MRU of {self._segment_mru_bytes}"
            raise SessionFault(text, TermReason.RESOURCE_EXHAUSTION, _reject(RejectReason.UNSUPPORTED))
        if header.body + header.size_bytes > len(data) and header.size_bytes < STREAM_MIN_BYTES:
            return pos
        self._begin_segment(header)
        self.remaining_bytes = header.size_bytes
        self._segment_flags = header.flags
        self._expects_large = header.size_bytes >= STREAM_MIN_BYTES
        return self.take_payload(data, header.body)

    def _begin_segment(self, header: _Header) -> None:
        if header.flags & START:
            self._begin_transfer(header)
        elif self._arriving is None or self._arriving.transfer_id != header.transfer_id:
            self._begin_stray()
            return
        arriving = self._arriving
        assert arriving is not None
        arriving.received_bytes += header.size_bytes
        if arriving.is_refused:
            return
        limit = self._transfer_mru_bytes if arriving.announced_bytes is None else arriving.announced_bytes
        if arriving.received_bytes > limit:
            self._refuse_arriving(arriving, RefuseReason.NOT_ACCEPTABLE)

    def _begin_transfer(self, header: _Header) -> None:
        """Section 5.2.2: a new transfer begins; the one before has to be complete, unless we refused it."""
        if self._arriving is not None and not self._arriving.is_refused:
            text = f"transfer {header.transfer_id} began inside of transfer {self._arriving.transfer_id}"
            raise SessionFault(text, TermReason.UNKNOWN, _reject(RejectReason.UNEXPECTED))
        if header.transfer_id in self._unanswered:
            text = f"transfer ID {header.transfer_id} was used twice"
            raise SessionFault(text, TermReason.UNKNOWN, _reject(RejectReason.UNEXPECTED))
        self._arriving = arriving = Arriving(header.transfer_id, header.items.total_bytes)
        announced = header.items.total_bytes or 0
        if self.is_ending:
            self._refuse_arriving(arriving, RefuseReason.SESSION_TERMINATING)
        elif header.items.problem:
            self._refuse_arriving(arriving, RefuseReason.EXTENSION_FAILURE)
        elif max(announced, header.size_bytes) > self._transfer_mru_bytes:
            self._refuse_arriving(arriving, RefuseReason.NOT_ACCEPTABLE)
        elif max(announced, header.size_bytes) > self._inline_max_bytes:
            self._begin_passing_on(arriving)

    def _begin_passing_on(self, arriving: Arriving) -> None:
        arriving.is_passed_on = True
        self._unwritten[arriving.transfer_id] = 0
        self.pieces.append(TransferBegun(arriving.transfer_id, arriving.announced_bytes))

    def _pass_on(self, arriving: Arriving) -> None:
        piece = arriving.take()
        if piece:
            self._unwritten[arriving.transfer_id] += len(piece)
            self._unwritten_bytes += len(piece)
            self.pieces.append(TransferPiece(arriving.transfer_id, piece))

    def release(self, transfer_id: int, size_bytes: int) -> None:
        """So much of the pieces of a large transfer needs no memory any more. One that was answered is passed over."""
        if transfer_id in self._unwritten:
            self._unwritten[transfer_id] -= size_bytes
            self._unwritten_bytes -= size_bytes

    def _forget_pieces(self, transfer_id: int) -> None:
        self._unwritten_bytes -= self._unwritten.pop(transfer_id, 0)

    def _refuse_arriving(self, arriving: Arriving, reason: RefuseReason) -> None:
        if arriving.is_passed_on:
            self._forget_pieces(arriving.transfer_id)
            self.pieces.append(TransferEnded(arriving.transfer_id, is_whole=False))
        arriving.drop()
        self._unanswered[arriving.transfer_id] = 0
        self._refusals[arriving.transfer_id] = pack_refuse(reason, arriving.transfer_id)

    def _begin_stray(self) -> None:
        """A segment of no transfer: told to the peer, skipped, and counted (section 5.1.2)."""
        if self._arriving is not None and not self._arriving.is_refused:
            text = f"a segment of another transfer inside of transfer {self._arriving.transfer_id}"
            raise SessionFault(text, TermReason.UNKNOWN, _reject(RejectReason.UNEXPECTED))
        self._strays += 1
        if self._strays > STRAYS_MAX:
            raise SessionFault("too many segments outside of any transfer", TermReason.UNKNOWN)
        self._answers.append(_reject(RejectReason.UNEXPECTED))
        self._arriving = None

    def take_payload(self, data: bytes, pos: int) -> int:
        """Take what `data` has of the segment under way; the position after it."""
        after = min(pos + self.remaining_bytes, len(data))
        arriving = self._arriving
        if arriving is not None and not arriving.is_refused:
            is_all = pos == 0 and after == len(data)
            arriving.add(data if is_all else data[pos:after])  # a slice of everything may be a copy, too
            if not arriving.is_passed_on and arriving.held_bytes > self._inline_max_bytes:
                self._begin_passing_on(arriving)
            if arriving.is_passed_on and arriving.held_bytes >= self._piece_bytes:
                self._pass_on(arriving)
        self._count(after - pos)
        return after

    def _count(self, size_bytes: int) -> None:
        self.remaining_bytes -= size_bytes
        if not self.remaining_bytes and self._arriving is not None:
            self._finish_segment(self._arriving)

    def _finish_segment(self, arriving: Arriving) -> None:
        """Acknowledge with the segment's own flags (section 5.2.3); refuse every segment of a refused one (5.2.4)."""
        transfer_id, size, flags = arriving.transfer_id, arriving.received_bytes, self._segment_flags
        if not arriving.is_refused and flags & END and arriving.announced_bytes not in (None, size):
            self._refuse_arriving(arriving, RefuseReason.NOT_ACCEPTABLE)
        elif arriving.is_refused:
            if transfer_id not in self._refusals:
                self._answers.append(pack_refuse(RefuseReason.NOT_ACCEPTABLE, transfer_id))
        elif flags & END and arriving.is_passed_on:
            self._pass_on(arriving)
            self.pieces.append(TransferEnded(transfer_id, is_whole=True))
            self._unanswered[transfer_id] = size << 8 | flags
        elif flags & END:
            self.rows.append(TransferRow(transfer_id, arriving.join()))
            self._unanswered[transfer_id] = size << 8 | flags
            self._unanswered_bytes += size
        else:
            self._answers.append(ACK.pack(_ACK, flags, transfer_id, size))
        if flags & END:
            self._arriving = None

    def acknowledge(self, transfer_ids: Iterable[int]) -> None:
        """These are durable. One that has its answer already (or is not known) is passed over."""
        if self._unwritten:
            transfer_ids = list(transfer_ids)
            for transfer_id in transfer_ids:
                self._settle_pieces(transfer_id)
        unanswered, refusals, pack, append = self._unanswered, self._refusals, ACK.pack, self._answers.append
        answered_bytes = 0
        for transfer_id in transfer_ids:
            if transfer_id in unanswered and transfer_id not in refusals:
                owed = unanswered.pop(transfer_id)
                answered_bytes += owed >> 8
                append(pack(_ACK, owed & 0xFF, transfer_id, owed >> 8))
        self._unanswered_bytes -= answered_bytes

    def _settle_pieces(self, transfer_id: int) -> None:
        """A large transfer that arrived whole gets its answer: it is counted like others from here on."""
        if transfer_id in self._unwritten and transfer_id in self._unanswered:
            self._forget_pieces(transfer_id)
            self._unanswered_bytes += self._unanswered[transfer_id] >> 8

    def refuse(self, transfer_id: int, reason: RefuseReason) -> None:
        """This one is not taken. One that has its answer already (or is not known) is passed over."""
        arriving = self._arriving
        if arriving is not None and arriving.transfer_id == transfer_id and arriving.is_passed_on:
            self._forget_pieces(transfer_id)
            arriving.is_passed_on = False
            if not arriving.is_refused:
                self._refuse_arriving(arriving, reason)
            return
        self._settle_pieces(transfer_id)
        if transfer_id in self._unanswered and transfer_id not in self._refusals:
            self._refusals[transfer_id] = pack_refuse(reason, transfer_id)

    def release_refusals(self) -> None:
        """Send the refusals whose turn has come: every earlier transfer must have its answer first (section 5.2.4)."""
        if not self._refusals:
            return
        ready = []
        for transfer_id in self._unanswered:
            if transfer_id not in self._refusals:
                break
            ready.append(transfer_id)
        for transfer_id in ready:
            self._unanswered_bytes -= self._unanswered.pop(transfer_id) >> 8
            self._answers.append(self._refusals.pop(transfer_id))


def _pull_header_untrusted(data: bytes, pos: int) -> _Header | None:
    """The header of the XFER_SEGMENT at `pos` (section 5.2.2); None: not complete yet. Errors: SessionFault."""
    available = len(data) - pos
    if available < SEGMENT_NEXT.size:
        return None
    _, flags, transfer_id, size = SEGMENT_NEXT.unpack_from(data, pos)
    if not flags & START:
        return _Header(flags, transfer_id, _NO_ITEMS, size, pos + SEGMENT_NEXT.size)
    _, _, _, items_bytes = SEGMENT_START.unpack_from(data, pos)
    if items_bytes > EXTENSIONS_MAX_BYTES:
        text = f"a transfer has {items_bytes} bytes of extension items, the limit is {EXTENSIONS_MAX_BYTES}"
        raise SessionFault(text, TermReason.RESOURCE_EXHAUSTION, _reject(RejectReason.UNSUPPORTED))
    items = pos + SEGMENT_START.size
    body = items + items_bytes + 8
    if len(data) < body:
        return None
    size = int.from_bytes(data[body - 8 : body], "big")
    return _Header(flags, transfer_id, pull_transfer_items_untrusted(data[items : body - 8]), size, body)


def _reject(reason: RejectReason) -> bytes:
    return pack_reject(reason, _SEGMENT)
