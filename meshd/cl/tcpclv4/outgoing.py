# SPDX-License-Identifier: Apache-2.0
"""The sending half of a TCPCLv4 session: transfers to segments, and the answers that come back (RFC 9174 section 5.2).

Payloads are never copied: what goes out is the chunks that came in, or views of them; a chunk that lies in the store is
read segment by segment. Segments are produced only when
the owner is about to write, so that a refusal stops a transfer at the next segment and other messages get between.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from meshd.base.errors import LocalProtocolError
from meshd.bundle.stored_chunk import Chunks, StoredChunk
from meshd.cl.tcpclv4.extensions import pack_transfer_length
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
    pack_reject,
)

IN_FLIGHT_MAX: Final = 65536
"""Transfers queued or sent and not answered; the owner is expected to keep far below (`in_flight`)."""
ODD_ANSWERS_MAX: Final = 16
"""Answers to transfers that do not exist, after which the session ends."""

_SEGMENT: Final = int(MessageType.XFER_SEGMENT)
_ACK: Final = int(MessageType.XFER_ACK)


class _Cut:
    """A transfer that is being cut into segments."""

    __slots__ = ("chunks", "left_bytes", "size_bytes", "transfer_id")

    def __init__(self, transfer_id: int, size_bytes: int, chunks: Chunks) -> None:
        self.transfer_id = transfer_id
        self.size_bytes = size_bytes
        self.left_bytes = size_bytes
        self.chunks = deque(chunk if isinstance(chunk, StoredChunk) else memoryview(chunk) for chunk in chunks)

    def take(self, size_bytes: int) -> list[memoryview]:
        """The next bytes, as views. Errors: StoreError."""
        self.left_bytes -= size_bytes
        views: list[memoryview] = []
        while size_bytes:
            chunk = self.chunks.popleft()
            if isinstance(chunk, StoredChunk):
                data, rest = chunk.split(size_bytes)
                if len(rest):
                    self.chunks.appendleft(rest)
                chunk = memoryview(data)
            if len(chunk) > size_bytes:
                self.chunks.appendleft(chunk[size_bytes:])
                chunk = chunk[:size_bytes]
            views.append(chunk)
            size_bytes -= len(chunk)
        return views


class Outgoing:
    """Transfers to the peer. `answers` is the session's list of control messages to send."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self._queue: deque[tuple[int, int, Chunks]] = deque()
        self._cut: _Cut | None = None
        self._sent: dict[int, int] = {}  # transfer ID: size, in order of sending
        self._next_id = 0
        self._odd_answers = 0
        self._segment_bytes = 0
        self._transfer_mtu_bytes = 0
        self.acknowledged: list[int] = []
        """Transfers acknowledged since the owner last took them."""
        self.refused: list[tuple[int, RefuseReason | None]] = []
        """Transfers refused since the owner last took them."""
        self.pending_bytes = 0
        """Queued and not produced yet."""

    @property
    def in_flight(self) -> int:
        """Transfers queued or sent and not answered yet."""
        return len(self._queue) + len(self._sent)

    @property
    def is_idle(self) -> bool:
        """True when nothing is under way and every transfer that began has its answer."""
        return self._cut is None and not self._sent

    def open(self, segment_bytes: int, transfer_mtu_bytes: int) -> None:
        """The session is established: what the peer takes is known."""
        self._segment_bytes = segment_bytes
        self._transfer_mtu_bytes = transfer_mtu_bytes

    def add(self, transfers: Sequence[Chunks], sizes_bytes: Sequence[int]) -> range:
        """Queue transfers; their IDs (section 5.2.1). One above the peer's transfer MRU comes back as refused."""
        if self.in_flight + len(transfers) > IN_FLIGHT_MAX:
            raise LocalProtocolError(f"{self.in_flight} transfers are in flight already: heed `in_flight`")
        first = self._next_id
        self._next_id += len(transfers)
        ids = range(first, self._next_id)
        limit = self._transfer_mtu_bytes
        if max(sizes_bytes) > limit:
            for transfer_id, size_bytes, chunks in zip(ids, sizes_bytes, transfers, strict=True):
                if size_bytes > limit:
                    self.refused.append((transfer_id, None))
                else:
                    self._queue.append((transfer_id, size_bytes, chunks))
                    self.pending_bytes += size_bytes
        else:
            self._queue.extend(zip(ids, sizes_bytes, transfers, strict=True))
            self.pending_bytes += sum(sizes_bytes)
        return ids

    def close(self) -> None:
        """No transfer begins any more (section 6.1); the one under way is finished."""
        self._queue.clear()
        self.pending_bytes = self._cut.left_bytes if self._cut else 0

    @property
    def cut_id(self) -> int:
        """The transfer that is being cut into segments."""
        assert self._cut is not None, "a transfer is under way"
        return self._cut.transfer_id

    def produce(self, out: list[Any], budget_bytes: int) -> None:
        """Append the next messages to `out` as buffers, whole messages, until the budget is used up."""
        queue, sent, mtu, pack = self._queue, self._sent, self._segment_bytes, SEGMENT_WHOLE.pack
        while budget_bytes > 0:
            if self._cut is not None:
                budget_bytes -= self._produce_segment(self._cut, out)
                continue
            if not queue:
                return
            transfer_id, size, chunks = queue.popleft()
            sent[transfer_id] = size
            if size > mtu or type(chunks[-1]) is StoredChunk:
                self._cut = _Cut(transfer_id, size, chunks)
                continue
            out.append(pack(_SEGMENT, WHOLE, transfer_id, 0, size))
            out.extend(chunks)
            self.pending_bytes -= size
            budget_bytes -= size

    def _produce_segment(self, cut: _Cut, out: list[bytes | memoryview]) -> int:
        """One segment of a larger transfer; the first carries the transfer length (section 5.2.5.1)."""
        size = min(self._segment_bytes, cut.left_bytes)
        flags = END if size == cut.left_bytes else 0
        is_first = cut.left_bytes == cut.size_bytes
        views = cut.take(size)
        if is_first:
            items = pack_transfer_length(cut.size_bytes)
            head = SEGMENT_START.pack(_SEGMENT, flags | START, cut.transfer_id, len(items))
            out.append(head + items + size.to_bytes(8, "big"))
        else:
            out.append(SEGMENT_NEXT.pack(_SEGMENT, flags, cut.transfer_id, size))
        out.extend(views)
        self.pending_bytes -= size
        if flags & END:
            self._cut = None
        return size

    def take_acks(self, data: bytes, pos: int) -> int:
        """Take the XFER_ACKs at `pos`, as many as follow each other; the position after them. Errors: SessionFault.

        The whole length says that a transfer is complete, with or without the END flag: dtn7-rs 0.21 leaves it out.
        """
        count = (len(data) - pos) // ACK.size
        sent, append = self._sent, self.acknowledged.append
        cut_id = -1 if self._cut is None else self._cut.transfer_id
        with memoryview(data) as view:
            for kind, flags, transfer_id, size in ACK.iter_unpack(view[pos : pos + count * ACK.size]):
                if kind != _ACK:
                    break
                if transfer_id != cut_id and sent.get(transfer_id) == size:
                    del sent[transfer_id]
                    append(transfer_id)
                else:
                    self._take_other_ack(flags, transfer_id, size)
                pos += ACK.size
        return pos

    def _take_other_ack(self, flags: int, transfer_id: int, size: int) -> None:
        """An intermediate acknowledgement, which changes nothing, or a wrong one (section 5.1.2)."""
        whole = self._sent.get(transfer_id)
        if whole is None:
            self._answer_oddity(_ACK, f"an acknowledgement of transfer {transfer_id}, which is not in flight")
        elif flags & END or size > whole:
            text = f"transfer {transfer_id} of {whole} bytes was acknowledged with {size} bytes at the wrong moment"
            raise SessionFault(text, TermReason.UNKNOWN, pack_reject(RejectReason.UNEXPECTED, _ACK))

    def take_refusal(self, reason: RefuseReason, transfer_id: int) -> None:
        """XFER_REFUSE has come (section 5.2.4): no further segment of that transfer begins. Errors: SessionFault."""
        if self._sent.pop(transfer_id, None) is None:
            if transfer_id >= self._next_id:
                text = f"a refusal of transfer {transfer_id}, which never was"
                self._answer_oddity(int(MessageType.XFER_REFUSE), text)
            return
        if self._cut is not None and self._cut.transfer_id == transfer_id:
            self.pending_bytes -= self._cut.left_bytes
            self._cut = None
        self.refused.append((transfer_id, reason))

    def _answer_oddity(self, message_type: int, text: str) -> None:
        self._odd_answers += 1
        if self._odd_answers > ODD_ANSWERS_MAX:
            raise SessionFault(f"too many answers to nothing, the last was {text}", TermReason.UNKNOWN)
        self._answers.append(pack_reject(RejectReason.UNEXPECTED, message_type))
