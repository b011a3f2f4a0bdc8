# SPDX-License-Identifier: Apache-2.0
"""The information base of a DLEP session: destinations that the modem reaches (RFC 8175 sections 12.11 to 12.17)."""

from typing import Final

import msgspec

from meshd.link.dlep.items import Address, AddressChange, DlepError, Metrics, Status, Subnet
from meshd.link.dlep.messages import Message

DESTINATIONS_MAX: Final = 1024
"""In more we are not interested;"""
ADDRESSES_MAX: Final = 16
"""nor in more addresses and subnets of one."""


class Destination(msgspec.Struct, frozen=True):
    """A remote node behind the modem, or a multicast group."""

    mac: bytes
    addresses: frozenset[Address | Subnet]
    metrics: Metrics


class Destinations:
    """Those of one session."""

    def __init__(self) -> None:
        self._known: dict[bytes, Destination] = {}
        self._declined: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, mac: bytes, message: Message, metrics: Metrics) -> tuple[Status, Destination | None]:
        """A destination is up; `metrics` is what holds for all. What the modem is answered, and the destination.

        Errors: DlepError: it was up already.
        """
        if mac in self._known:
            raise DlepError(Status.UNEXPECTED_MESSAGE, f"destination {mac.hex(':')} was up already")
        if len(self._known) >= DESTINATIONS_MAX:
            self._decline(mac)
            return Status.NOT_INTERESTED, None
        self._declined.discard(mac)
        addresses, is_consistent = _changed(frozenset(), message.changes)
        destination = Destination(mac, addresses, metrics.updated(message.metrics))
        self._known[mac] = destination
        return Status.SUCCESS if is_consistent else Status.INCONSISTENT_DATA, destination

    def update(self, mac: bytes, message: Message) -> Destination | None:
        """What is known of it now; None: nothing has changed, or we were not interested.

        Errors: DlepError: no such destination is up.
        """
        known = self._find(mac)
        if known is None:
            return None
        addresses, _ = _changed(known.addresses, message.changes)
        fresh = Destination(mac, addresses, known.metrics.updated(message.metrics))
        self._known[mac] = fresh
        return fresh if fresh != known else None

    def update_all(self, metrics: Metrics) -> list[Destination]:
        """This was said of all links; those that changed by it."""
        changed = []
        for mac, known in self._known.items():
            fresh = msgspec.structs.replace(known, metrics=known.metrics.updated(metrics))
            if fresh != known:
                self._known[mac] = fresh
                changed.append(fresh)
        return changed

    def remove(self, mac: bytes) -> Destination | None:
        """It is down; None: we were not interested.

        Errors: DlepError: no such destination is up.
        """
        known = self._find(mac)
        self._known.pop(mac, None)
        self._declined.discard(mac)
        return known

    def _find(self, mac: bytes) -> Destination | None:
        if mac in self._known:
            return self._known[mac]
        if mac in self._declined:
            return None
        raise DlepError(Status.INVALID_DESTINATION, f"destination {mac.hex(':')} is not up")

    def _decline(self, mac: bytes) -> None:
        if len(self._declined) < DESTINATIONS_MAX:
            self._declined.add(mac)


def _changed(
    known: frozenset[Address | Subnet], changes: tuple[AddressChange, ...]
) -> tuple[frozenset[Address | Subnet], bool]:
    """The addresses after the changes, and whether these made sense (sections 13.8.1 and so on)."""
    addresses, is_consistent = set(known), True
    for change in changes:
        if change.is_added == (change.subject in addresses):
            is_consistent = False
        elif not change.is_added:
            addresses.remove(change.subject)
        elif len(addresses) < ADDRESSES_MAX:
            addresses.add(change.subject)
    return frozenset(addresses), is_consistent
