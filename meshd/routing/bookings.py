# SPDX-License-Identifier: Apache-2.0
"""What has been promised of the volume of contacts to come, by precedence (SABR, CCSDS 734.3-B-1 section 3.2.6).

A bundle that waits for a contact, or that goes on in one after its next hop, books its size there. Only what is at or
above its own precedence goes before it; so a more urgent bundle may book what is booked already, and the least urgent
are displaced: they are to be decided anew. Contacts without a known end have no volume to book.
"""

import math
from collections.abc import Sequence
from typing import Final

from meshd.bundle.eid import Eid
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleId
from meshd.routing.contact import Contact
from meshd.routing.contact_graph import seconds_per_byte

BOOKED_MAX: Final = 100_000
"""Bundles with bookings; more are forwarded without any."""

_Key = tuple[Eid, Eid, str, float]
"""Sender, receiver, bearer and end: they stay the same when a contact begins late, or its rate changes."""


class _Account:
    """What is booked in one contact."""

    __slots__ = ("rows", "totals")

    def __init__(self) -> None:
        self.rows: dict[BundleId, tuple[int, int]] = {}
        """Precedence and bytes, in the order in which they were booked."""
        self.totals = [0] * len(Precedence)

    def take_out(self, bundle: BundleId) -> None:
        precedence, size_bytes = self.rows.pop(bundle)
        self.totals[precedence] -= size_bytes


class Bookings:
    """Owns the accounts of all contacts with an end."""

    def __init__(self) -> None:
        self._accounts: dict[_Key, _Account] = {}
        self._by_bundle: dict[BundleId, list[_Key]] = {}
        self._waiting: set[BundleId] = set()
        self._displaced: dict[BundleId, None] = {}

    def __contains__(self, bundle: BundleId) -> bool:
        return bundle in self._by_bundle

    def before(self, contact: Contact, precedence: int, bundle: BundleId) -> int:
        """Bytes that go before a bundle of this precedence, if it is booked now."""
        account = self._accounts.get(_key(contact)) if self._accounts else None
        if account is None:
            return 0
        own = account.rows.get(bundle)
        return sum(account.totals[precedence:]) - (own[1] if own is not None and own[0] >= precedence else 0)

    def book(
        self,
        bundle: BundleId,
        precedence: int,
        size_bytes: int,
        hops: Sequence[Contact],
        dtn_s: float,
        *,
        is_waiting: bool,
    ) -> None:
        """Book a place in these contacts, in place of what was booked for the bundle before.

        Whoever `is_waiting` here can be displaced again; what is on its way can't.
        """
        self.release(bundle)
        timed = [contact for contact in hops if contact.end_s != math.inf]
        if not timed or len(self._by_bundle) >= BOOKED_MAX:
            return
        self._by_bundle[bundle] = [_key(contact) for contact in timed]
        if is_waiting:
            self._waiting.add(bundle)
        for contact in timed:
            account = self._accounts.setdefault(_key(contact), _Account())
            account.rows[bundle] = precedence, size_bytes
            account.totals[precedence] += size_bytes
            self._displace(account, contact, precedence, dtn_s)

    def release(self, bundle: BundleId) -> None:
        """It needs no place any more."""
        for key in self._by_bundle.pop(bundle, ()):
            account = self._accounts.get(key)
            if account is not None and bundle in account.rows:
                account.take_out(bundle)
                if not account.rows:
                    del self._accounts[key]
        self._waiting.discard(bundle)

    def take_displaced(self) -> Sequence[BundleId]:
        """Who lost its place since the last call."""
        if not self._displaced:
            return ()
        displaced = list(self._displaced)
        self._displaced.clear()
        return displaced

    def drop_ended(self, dtn_s: float) -> None:
        """Forget contacts that are over."""
        for key in [key for key in self._accounts if key[3] <= dtn_s]:
            for bundle in self._accounts.pop(key).rows:
                keys = self._by_bundle[bundle]
                keys.remove(key)
                if not keys:
                    del self._by_bundle[bundle]
                    self._waiting.discard(bundle)

    def _displace(self, account: _Account, contact: Contact, precedence: int, dtn_s: float) -> None:
        """Those below this precedence for whom there is no room any more: the least urgent, the latest first."""
        volume_bytes = (contact.end_s - max(contact.start_s, dtn_s)) / seconds_per_byte(contact)
        excess_bytes = sum(account.totals) - volume_bytes
        if excess_bytes <= 0 or not any(account.totals[:precedence]):
            return
        for rank in range(precedence):
            for bundle in [each for each, row in reversed(account.rows.items()) if row[0] == rank]:
                if excess_bytes <= 0:
                    return
                if bundle in self._waiting:
                    excess_bytes -= account.rows[bundle][1]
                    self.release(bundle)
                    self._displaced[bundle] = None


def _key(contact: Contact) -> _Key:
    return contact.sender, contact.receiver, contact.bearer, contact.end_s
