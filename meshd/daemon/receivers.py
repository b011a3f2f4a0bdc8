# SPDX-License-Identifier: Apache-2.0
"""Messages on their way out to applications: `recv.*` of the control protocol.

A receiver has one message at a time. It reads it piece by piece out of the store, part by part, and the node forgets it
only when it is confirmed; a receiver that goes away before gets it again, or the next one does.
"""

from collections.abc import Callable, Collection
from typing import Any, Final

import trio

from meshd.base.errors import StoreError
from meshd.bundle.eid import Eid
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleId, PayloadRef, bundle_id_text, bundle_ref
from meshd.bundle.scan import scan_untrusted
from meshd.control.errors import ControlError
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.dtn_clock import unix_ms
from meshd.daemon.submissions import local_endpoint
from meshd.node.commands import DeliverMessage, MessagePart
from meshd.node.events import DataUnreadable, DeliveryConfirmed, Event, ReceiverAttached, ReceiverDetached

RECEIVERS_MAX: Final = 256

CREATED_MAX_MS: Final = 1 << 62
"""A source may claim any creation time; one that the control protocol could not carry is told as unknown."""


class Receiver:
    """One application that receives."""

    def __init__(self, number: int, owner: SessionHandle, endpoint: Eid) -> None:
        self.number = number
        self.owner = owner
        self.endpoint = endpoint
        self.message: DeliverMessage | None = None
        self.size_bytes = 0
        self.cached: tuple[int, memoryview] | None = None
        """(part index, its payload): reading goes through a part piece by piece."""
        self.changed = trio.Event()

    def notify(self) -> None:
        """Wake whoever waits for a message."""
        self.changed.set()
        self.changed = trio.Event()


class Receivers:
    """Serves `recv.*` and takes the agent's offers."""

    def __init__(
        self,
        dispatch: Callable[[Event], None],
        read: Callable[[PayloadRef], bytes],
        is_here: Callable[[BundleId], bool],
        own_node: Eid,
        groups: Callable[[], Collection[Eid]] = frozenset,
    ) -> None:
        """`groups` gives the endpoints of the groups that this node is a member of."""
        self._dispatch = dispatch
        self._read = read
        self._is_here = is_here
        self._own_node = own_node
        self._groups = groups
        self._receivers: dict[int, Receiver] = {}
        self._numbers = 0

    async def open(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`recv.open`."""
        if len(self._receivers) >= RECEIVERS_MAX:
            raise ControlError("failed", f"{RECEIVERS_MAX} receivers are open already; close one")
        endpoint = self._endpoint(params["endpoint"])
        self._numbers += 1
        receiver = self._receivers[self._numbers] = Receiver(self._numbers, session, endpoint)
        self._dispatch(ReceiverAttached(receiver.number, endpoint))
        return {"receiver": receiver.number, "endpoint": endpoint.uri}

    async def next(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`recv.next`."""
        receiver = self._get(session, params)
        timeout_s = params["timeout_s"]
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            while True:
                self._get(session, params)
                self._drop_if_gone(receiver)
                if receiver.message is not None:
                    break
                await receiver.changed.wait()
        if receiver.message is None:
            raise ControlError("timeout", f"no message for {receiver.endpoint.uri} within {timeout_s:g} s")
        return _describe(receiver.message, receiver.size_bytes)

    async def read(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`recv.read`: as much of the piece asked for as lies in one part."""
        receiver = self._get(session, params)
        message = _offered(receiver, params["message"])
        offset, size_bytes = params["offset"], params["size_bytes"]
        if offset >= receiver.size_bytes:
            return {"data": b""}
        index = _part_at(message, offset)
        start = offset - message.parts[index].offset_bytes
        data = self._payload(receiver, message, index)[start : start + size_bytes]
        return {"data": bytes(data)}

    async def confirm(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`recv.confirm`."""
        receiver = self._get(session, params)
        self._drop_if_gone(receiver)
        message = _offered(receiver, params["message"])
        receiver.message, receiver.cached = None, None
        self._dispatch(DeliveryConfirmed(receiver.number, message.message))
        return {}

    async def close(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
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
        receiver.size_bytes = last.offset_bytes + len(payload)
        receiver.cached = (len(message.parts) - 1, payload)
        receiver.notify()

    def _endpoint(self, name: str) -> Eid:
        for group in self._groups():
            if group.uri == name:
                return group
        return local_endpoint(self._own_node, name)

    def _get(self, session: SessionHandle, params: dict[str, Any]) -> Receiver:
        receiver = self._receivers.get(params["receiver"])
        if receiver is None or receiver.owner is not session:
            raise ControlError("not_found", f"receiver {params['receiver']} is not one of this session's")
        return receiver

    def _drop_if_gone(self, receiver: Receiver) -> None:
        """The message has expired, was cancelled or is damaged."""
        message = receiver.message
        if message is not None and not all(self._is_here(part.id) for part in message.parts):
            receiver.message, receiver.cached = None, None

    def _payload(self, receiver: Receiver, message: DeliverMessage, index: int) -> memoryview:
        if receiver.cached is not None and receiver.cached[0] == index:
            return receiver.cached[1]
        part = message.parts[index]
        payload = self._payload_or_none(part) if self._is_here(part.id) else None
        is_last = index + 1 == len(message.parts)
        if payload is not None and not is_last:
            end = part.offset_bytes + len(payload)
            if end != message.parts[index + 1].offset_bytes:
                # Its source cut the message wrongly: nobody can ever read it, so it must not stay in the way.
                self._dispatch(DataUnreadable([part.id], f"part {index} of its message ends at {end}, not at the next"))
                payload = None
        if payload is None:
            raise ControlError(
                "failed", f"part {index} of {bundle_ref(message.message)} has expired, was cancelled, or is damaged"
            )
        receiver.cached = (index, payload)
        return payload

    def _payload_or_none(self, part: MessagePart) -> memoryview | None:
        """The payload of one part; None when the store could not give it back, which is reported."""
        try:
            data = self._read(part.payload)
        except StoreError as error:
            self._dispatch(DataUnreadable([part.id], str(error)))
            return None
        header = scan_untrusted(data)
        return memoryview(data)[header.payload_offset : header.payload_offset + header.payload_size]

    def _drop(self, receiver: Receiver) -> None:
        del self._receivers[receiver.number]
        receiver.notify()
        self._dispatch(ReceiverDetached(receiver.number))


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


def _describe(message: DeliverMessage, size_bytes: int) -> dict[str, Any]:
    return {
        "message": bundle_id_text(message.message),
        "ref": bundle_ref(message.message),
        "source": message.source.uri,
        "destination": message.destination.uri,
        "precedence": Precedence(message.precedence).name,
        "size_bytes": size_bytes,
        "created_ms": unix_ms(message.created_ms) if 0 < message.created_ms <= CREATED_MAX_MS else None,
        "expiry_ms": unix_ms(message.expiry_ms),
    }
