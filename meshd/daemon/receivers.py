# SPDX-License-Identifier: Apache-2.0
"""Messages on their way out to applications: `recv.*` of the control protocol.

A receiver has one message at a time. It reads it piece by piece out of the store, part by part, and the node forgets it
only when it is confirmed; a receiver that goes away before gets it again, or the next one does.
"""

from collections.abc import Callable, Collection
from typing import Any, Final

from meshd.base.errors import StoreError
from meshd.base.limits import FRONT_SIZE_MAX_BYTES, INLINE_SIZE_MAX_BYTES, PIECE_SIZE_BYTES
from meshd.bundle.eid import Eid
from meshd.bundle.header import BundleHeader
from meshd.bundle.piecewise import scan_front_untrusted
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleId, PayloadRef, bundle_id_text, bundle_ref
from meshd.control.errors import ControlError
from meshd.daemon.control_handler import Pending, SessionHandle
from meshd.daemon.dtn_clock import unix_ms
from meshd.daemon.submissions import Answer, local_endpoint
from meshd.node.commands import DeliverMessage, MessagePart
from meshd.node.events import DataUnreadable, DeliveryConfirmed, Event, ReceiverAttached, ReceiverDetached

RECEIVERS_MAX: Final = 256

ReadPiece = Callable[[PayloadRef, int, int], bytes]
"""So many bytes of a stored bundle, from an offset on. Errors: StoreError."""

CREATED_MAX_MS: Final = 1 << 62
"""A source may claim any creation time; one that the control protocol could not carry is told as unknown."""


class PartPayload:
    """The payload of one bundle; of a large one only the piece asked for is read.

    Errors:
        StoreError: the bundle can't be read; from `read` too.
    """

    def __init__(
        self, read_piece: ReadPiece, ref: PayloadRef, data: bytes | None = None, header: BundleHeader | None = None
    ) -> None:
        """`data` is the bundle, when it is in memory, `header` what stands in it, when that is known."""
        self._read_piece = read_piece
        self._ref = ref
        self._is_large = ref.size_bytes > INLINE_SIZE_MAX_BYTES
        if data is not None and not self._is_large:
            self._data = data
        else:
            self._data = read_piece(ref, 0, FRONT_SIZE_MAX_BYTES if self._is_large else ref.size_bytes)
        header = header or scan_front_untrusted(self._data)
        self._offset = header.payload_offset
        self.size_bytes = header.payload_size

    def read(self, start: int, size_bytes: int) -> bytes:
        """These bytes of it; fewer where it ends."""
        size_bytes = max(min(size_bytes, self.size_bytes - start), 0)
        start += self._offset
        if not self._is_large:
            return self._data[start : start + size_bytes]
        return self._read_piece(self._ref, start, min(size_bytes, PIECE_SIZE_BYTES))


class Receiver:
    """One application that receives."""

    def __init__(self, number: int, owner: SessionHandle, endpoint: Eid) -> None:
        self.number = number
        self.owner = owner
        self.endpoint = endpoint
        self.message: DeliverMessage | None = None
        self.size_bytes = 0
        self.cached: tuple[int, PartPayload] | None = None
        """(part index, its payload): reading goes through a part piece by piece."""
        self.polls: list[tuple[Pending, int]] = []
        """Who waits for a message, and how much of its content may come along."""

    def describe(self, data_max_bytes: int) -> dict[str, Any]:
        """The message offered; with its content when that is one part, small enough and at hand."""
        message, size_bytes = self.message, self.size_bytes
        assert message is not None, "there is an offer"
        described = {
            "message": bundle_id_text(message.message),
            "ref": bundle_ref(message.message),
            "source": message.source.uri,
            "destination": message.destination.uri,
            "precedence": Precedence(message.precedence).name,
            "size_bytes": size_bytes,
            "created_ms": unix_ms(message.created_ms) if 0 < message.created_ms <= CREATED_MAX_MS else None,
            "expiry_ms": unix_ms(message.expiry_ms),
        }
        if self.cached is not None and len(message.parts) == 1 and size_bytes <= data_max_bytes:
            described["data"] = self.cached[1].read(0, size_bytes)
        return described


class Receivers:
    """Serves `recv.*` and takes the agent's offers."""

    def __init__(
        self,
        dispatch: Callable[[Event], None],
        read_piece: ReadPiece,
        is_here: Callable[[BundleId], bool],
        own_node: Eid,
        groups: Callable[[], Collection[Eid]] = frozenset,
    ) -> None:
        """`groups` gives the endpoints of the groups that this node is a member of."""
        self._dispatch = dispatch
        self._read_piece = read_piece
        self._is_here = is_here
        self._own_node = own_node
        self._groups = groups
        self._receivers: dict[int, Receiver] = {}
        self._numbers = 0

    def open(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`recv.open`."""
        if len(self._receivers) >= RECEIVERS_MAX:
            raise ControlError("failed", f"{RECEIVERS_MAX} receivers are open already; close one")
        endpoint = self._endpoint(params["endpoint"])
        self._numbers += 1
        receiver = self._receivers[self._numbers] = Receiver(self._numbers, session, endpoint)
        self._dispatch(ReceiverAttached(receiver.number, endpoint))
        return {"receiver": receiver.number, "endpoint": endpoint.uri}

    def next(self, session: SessionHandle, params: dict[str, Any]) -> Answer:
        """`recv.next`."""
        receiver = self._get(session, params)
        self._drop_if_gone(receiver)
        if receiver.message is None:
            return _poll(receiver, params["timeout_s"], params["data_max_bytes"])
        return receiver.describe(params["data_max_bytes"])

    def read(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`recv.read`: as much of the piece asked for as lies in one part."""
        receiver = self._get(session, params)
        message = _offered(receiver, params["message"])
        offset, size_bytes = params["offset"], params["size_bytes"]
        if offset >= receiver.size_bytes:
            return {"data": b""}
        index = _part_at(message, offset)
        start = offset - message.parts[index].offset_bytes
        payload = self._payload(receiver, message, index)
        try:
            return {"data": payload.read(start, size_bytes)}
        except StoreError as error:
            self._dispatch(DataUnreadable([message.parts[index].id], str(error)))
            raise _part_gone(message, index) from error

    def confirm(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`recv.confirm`."""
        receiver = self._get(session, params)
        self._drop_if_gone(receiver)
        message = _offered(receiver, params["message"])
        receiver.message, receiver.cached = None, None
        self._dispatch(DeliveryConfirmed(receiver.number, message.message))
        return {}

    def close(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`recv.close`."""
        self._drop(self._get(session, params))
        return {}

    def session_closed(self, session: SessionHandle) -> None:
        """What it had not confirmed stays with the node."""
        for receiver in [each for each in self._receivers.values() if each.owner is session]:
            self._drop(receiver)

    def deliver(self, message: DeliverMessage) -> None:
        """The agent offers a message to a receiver."""
        receiver = self._receivers.get(message.receiver)
        if receiver is None:
            return
        last = message.parts[-1]
        payload = self._payload_or_none(last)
        if payload is None:
            return
        receiver.message = message
        receiver.size_bytes = last.offset_bytes + payload.size_bytes
        receiver.cached = (len(message.parts) - 1, payload)
        for poll, data_max_bytes in receiver.polls:
            if not poll.is_over:
                poll.settle(receiver.describe(data_max_bytes))
        receiver.polls.clear()

    def _endpoint(self, name: str) -> Eid:
        for group in self._groups():
            if group.uri == name:
                return group
        return local_endpoint(self._own_node, name)

    def _get(self, session: SessionHandle, params: dict[str, Any]) -> Receiver:
        receiver = self._receivers.get(params["receiver"])
        if receiver is None or receiver.owner is not session:
            raise _no_receiver(params["receiver"])
        return receiver

    def _drop_if_gone(self, receiver: Receiver) -> None:
        """The message has expired, was cancelled or is damaged."""
        message = receiver.message
        if message is not None and not all(self._is_here(part.id) for part in message.parts):
            receiver.message, receiver.cached = None, None

    def _payload(self, receiver: Receiver, message: DeliverMessage, index: int) -> PartPayload:
        if receiver.cached is not None and receiver.cached[0] == index:
            return receiver.cached[1]
        part = message.parts[index]
        payload = self._payload_or_none(part) if self._is_here(part.id) else None
        is_last = index + 1 == len(message.parts)
        if payload is not None and not is_last:
            end = part.offset_bytes + payload.size_bytes
            if end != message.parts[index + 1].offset_bytes:
                # Its source cut the message wrongly: nobody can ever read it, so it must not stay in the way.
                self._dispatch(DataUnreadable([part.id], f"part {index} of its message ends at {end}, not at the next"))
                payload = None
        if payload is None:
            raise _part_gone(message, index)
        receiver.cached = (index, payload)
        return payload

    def _payload_or_none(self, part: MessagePart) -> PartPayload | None:
        """The payload of one part; None when the store could not give it back, which is reported."""
        try:
            return PartPayload(self._read_piece, part.payload, part.data, part.header)
        except StoreError as error:
            self._dispatch(DataUnreadable([part.id], str(error)))
            return None

    def _drop(self, receiver: Receiver) -> None:
        del self._receivers[receiver.number]
        for poll, _ in receiver.polls:
            poll.fail(_no_receiver(receiver.number))
        self._dispatch(ReceiverDetached(receiver.number))


def _part_gone(message: DeliverMessage, index: int) -> ControlError:
    text = f"part {index} of {bundle_ref(message.message)} has expired, was cancelled, or is damaged"
    return ControlError("failed", text)


def _no_receiver(number: int) -> ControlError:
    return ControlError("not_found", f"receiver {number} is not one of this session's")


def _poll(receiver: Receiver, timeout_s: float | None, data_max_bytes: int) -> Pending:
    """Wait for a message from now on; polls that nobody waits for any more are forgotten on the way."""
    seconds = "" if timeout_s is None else f" within {timeout_s:g} s"
    poll = Pending(timeout_s, f"no message for {receiver.endpoint.uri}{seconds}")
    receiver.polls = [each for each in receiver.polls if not each[0].is_over]
    receiver.polls.append((poll, data_max_bytes))
    return poll


def _offered(receiver: Receiver, id_text: str) -> DeliverMessage:
    message = receiver.message
    if message is None or bundle_id_text(message.message) != id_text:
        raise ControlError(
            "not_found", f"message {id_text} is not the one offered to this receiver; it may have expired"
        )
    return message


def _part_at(message: DeliverMessage, offset: int) -> int:
    """Index of the part that holds this offset."""
    low, high = 0, len(message.parts) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if message.parts[middle].offset_bytes <= offset:
            low = middle
        else:
            high = middle - 1
    return low
