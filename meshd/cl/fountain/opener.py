# SPDX-License-Identifier: Apache-2.0
"""Opens sealed datagrams: finds epoch and sender, refuses what is forged or replayed, and keeps the replay marks.

The header names no epoch, so each epoch that is accepted is tried: the current one first, then those beside it. What is
cheap comes first: unmasking costs one block of AES an epoch and leaves 16 bits, which by chance name one of a few
members rarely; then the replay window; the key of the sender last. Of what has come in together all is unmasked at
once (`sift_untrusted`). So a flood of forged datagrams costs little more than to receive it.

The link key proves membership only: a member can seal in another's name, and with a high boot number make that one
unheard here. It is the price of a key that all share; a roll without that member and a removed file of marks end it.

What lies beyond a sender's durable mark waits inside: `open_untrusted` returns None for it, `marks_to_save` gives what
is to be put on the disk, and `saved` returns what need wait no longer.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshd.bundle.eid import Eid
from meshd.cl.fountain.datagram import (
    DATAGRAM_MAX_BYTES,
    HEADER,
    HEADER_BYTES,
    INDEX_BYTES,
    MASK_SAMPLE_BYTES,
    SEAL_BYTES,
    DatagramError,
    Fault,
    Opened,
    Sifted,
)
from meshd.cl.fountain.sealer import Sealer
from meshd.security.datagram_keys import derive_datagram_key, derive_header_mask, derive_mask_blocks
from meshd.security.link_keys import LinkKeys
from meshd.security.node_index import index_nodes
from meshd.security.replay_window import NO_MARK, Mark, Novelty, ReplayWindow

EPOCHS_TRIED_MAX: Final = 4
"""A datagram that names no member costs so many blocks of AES."""
WAITING_MAX: Final = 256
"""Datagrams that wait for marks; the others are dropped meanwhile."""
SIFTED_MIN: Final = 6
"""Datagrams; fewer are opened one by one as quickly."""
_HEADER_END: Final = HEADER_BYTES + MASK_SAMPLE_BYTES
_INDEXES_IN_MASK: Final = MASK_SAMPLE_BYTES // INDEX_BYTES


class _Sender(NamedTuple):
    node: Eid
    key: AESGCM
    window: ReplayWindow | None
    """None: the sender is this node."""


class _Epoch:
    """One epoch's keys for all members."""

    def __init__(
        self, number: int, keys: LinkKeys, bearer: str, windows: Mapping[int, tuple[Eid, ReplayWindow | None]]
    ) -> None:
        key = keys.keys[number]
        self.number = number
        self.is_old = keys.is_old(number)
        self.mask = derive_header_mask(key, bearer)
        self.mask_blocks = derive_mask_blocks(key, bearer)
        self.senders = {
            index.to_bytes(INDEX_BYTES): _Sender(node, derive_datagram_key(key, node, bearer), window)
            for index, (node, window) in windows.items()
        }
        self.windows = {int.from_bytes(index, sys.byteorder): sender.window for index, sender in self.senders.items()}
        """By index as this machine reads it."""


class Opener:
    """One bearer's, for all its members."""

    def __init__(
        self,
        nodes: Iterable[Eid],
        bearer: str,
        keys: LinkKeys,
        marks: Mapping[Eid, Mark],
        ahead: int,
        own: Sealer | None = None,
    ) -> None:
        """Make one.

        Args:
            nodes: all members that may be heard.
            bearer: its name, the same at all of them.
            keys: the link keys.
            marks: as last saved; what is not there was never heard.
            ahead: see `replay_window.py`; about the datagrams of a second.
            own: this node's; None where it never sends on this bearer.

        Errors: SettingsError: two members have the same index.
        """
        self._bearer = bearer
        self._own = own
        others = {node for node in nodes if own is None or node != own.node}
        self._windows = {node: ReplayWindow(marks.get(node, NO_MARK), ahead) for node in others}
        self._indexes = index_nodes(others if own is None else others | {own.node}, bearer)
        self._waiting: list[Opened] = []
        self._dirty = False
        self.roll(keys)

    def roll(self, keys: LinkKeys) -> None:
        """Accept these epochs from now on. What was seen stays seen: counters run on through epochs."""
        windows = {index: (node, self._windows.get(node)) for index, node in self._indexes.items()}
        self._epochs = [_Epoch(number, keys, self._bearer, windows) for number in _order_epochs(keys)]

    def sift_untrusted(self, datagrams: Sequence[bytes]) -> Sifted:
        """What is left to be opened of datagrams that came together, in their order; the others are dropped.

        Of a few, nothing is dropped here.
        """
        if len(datagrams) < SIFTED_MIN:
            return Sifted(datagrams)
        whole = [each for each in datagrams if SEAL_BYTES < len(each) <= DATAGRAM_MAX_BYTES]
        samples = b"".join([each[HEADER_BYTES:_HEADER_END] for each in whole])
        masked = int.from_bytes(b"".join([each[:MASK_SAMPLE_BYTES] for each in whole]))
        wanted: set[int] = set()
        replayed: set[int] = set()
        for epoch in self._epochs:
            # One number of all: Python has no quicker XOR of bytes.
            headers = (masked ^ int.from_bytes(epoch.mask_blocks(samples))).to_bytes(len(samples))
            indexes = memoryview(headers).cast("H")[::_INDEXES_IN_MASK].tolist()
            for place in compress(range(len(whole)), map(epoch.windows.__contains__, indexes)):
                window = epoch.windows[indexes[place]]
                _, boot, high, low = HEADER.unpack_from(headers, place * MASK_SAMPLE_BYTES)
                if window is not None and window.judge(boot, high << 32 | low) is Novelty.REPLAYED:
                    replayed.add(place)
                else:
                    wanted.add(place)
        again = len(replayed - wanted)
        dropped = {
            Fault.SIZE: len(datagrams) - len(whole),
            Fault.UNKNOWN: len(whole) - len(wanted) - again,
            Fault.REPLAYED: again,
        }
        return Sifted([whole[place] for place in sorted(wanted)], dropped)

    def open_untrusted(self, datagram: bytes) -> Opened | None:
        """What another member sealed, met for the first time; None: it waits for `saved`.

        Errors:
            DatagramError: it is dropped.
        """
        size = len(datagram)
        if not SEAL_BYTES < size <= DATAGRAM_MAX_BYTES:
            raise DatagramError(Fault.SIZE)
        masked = datagram[:HEADER_BYTES]
        sample = datagram[HEADER_BYTES:_HEADER_END]
        fault = Fault.UNKNOWN
        for epoch in self._epochs:
            header = epoch.mask(sample, masked)
            sender = epoch.senders.get(header[:INDEX_BYTES])
            if sender is None:
                continue
            found = self._open(epoch, sender, header, datagram)
            if isinstance(found, Opened):
                return self._take(found, sender.window)
            fault = found
            if fault is Fault.REPLAYED:
                break  # its boot number is right, too: no chance, and no other epoch's
        raise DatagramError(fault)

    def _open(self, epoch: _Epoch, sender: _Sender, header: bytes, datagram: bytes) -> Opened | Fault:
        index, boot, high, low = HEADER.unpack(header)
        counter = high << 32 | low
        novelty = Novelty.NEW if sender.window is None else sender.window.judge(boot, counter)
        if novelty is not Novelty.NEW:
            return Fault.REPLAYED if novelty is Novelty.REPLAYED else Fault.TOO_OLD
        try:
            plaintext = sender.key.decrypt(header, datagram[HEADER_BYTES:], None)
        except InvalidTag:
            return Fault.FORGED
        if sender.window is None:
            return Fault.CLONED if self._own and self._own.is_ahead(boot, counter) else Fault.OWN
        return Opened(sender.node, index, boot, counter, epoch.number, epoch.is_old, plaintext)

    def _take(self, opened: Opened, window: ReplayWindow | None) -> Opened | None:
        assert window is not None
        before = window.wanted
        is_durable = window.take(opened.boot, opened.counter)
        self._dirty |= window.wanted is not before
        if is_durable:
            return opened
        if len(self._waiting) >= WAITING_MAX:
            raise DatagramError(Fault.CROWDED)
        self._waiting.append(opened)
        return None

    @property
    def waiting_sender(self) -> Eid:
        """Who sealed the datagram that `open_untrusted` put aside last."""
        return self._waiting[-1].sender

    @property
    def is_saving_wanted(self) -> bool:
        """True when `marks_to_save` has something new."""
        return self._dirty

    def marks_to_save(self) -> dict[Eid, Mark]:
        """All senders' marks as they should be on the disk; tell `saved` when they are."""
        self._dirty = False
        return {node: window.wanted for node, window in self._windows.items() if window.wanted != NO_MARK}

    def saved(self, marks: Mapping[Eid, Mark]) -> list[Opened]:
        """These marks are on the disk; what waited for them, in the order of its coming."""
        for node, mark in marks.items():
            self._windows[node].saved(mark)
        ready = [each for each in self._waiting if self._windows[each.sender].is_durable(each.boot, each.counter)]
        if ready:
            done = {id(each) for each in ready}
            self._waiting = [each for each in self._waiting if id(each) not in done]
        return ready

    def final_marks(self) -> dict[Eid, Mark]:
        """What to save when the bearer closes in order: nothing that is still to come is refused after it."""
        return {node: window.spent for node, window in self._windows.items() if window.spent != NO_MARK}

    def heard(self, node: Eid) -> Mark:
        """The highest that came from a node since the start, for its REPORT; NO_MARK: nothing came."""
        return self._windows[node].heard


def _order_epochs(keys: LinkKeys) -> list[int]:
    """Those that are tried, in order: current, previous, later ones, then old ones."""
    later = sorted(epoch for epoch in keys.keys if epoch > keys.current)
    earlier = sorted((epoch for epoch in keys.keys if epoch < keys.current), reverse=True)
    return [keys.current, *earlier[:1], *later, *earlier[1:]][:EPOCHS_TRIED_MAX]
