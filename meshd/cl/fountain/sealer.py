# SPDX-License-Identifier: Apache-2.0
"""Seals datagrams: AES-256-GCM under the node's own key of epoch and bearer.

Why no nonce ever repeats under a key:

1. The key is derived from the epoch's link key, the node ID and the bearer's name. So only one node's datagrams on one
   bearer share a key; a node has one daemon (the lock of its store), and the daemon one Sealer for each bearer.
2. The nonce is index (fixed), boot number and counter. Within a start the boot number is fixed, and the counter is
   increased before the datagram leaves `seal`; when it is used up, sealing ends. A key roll keeps both going.
3. Across starts the boot number is new. A Sealer takes a `DurableBootNumber`, which exists only when the file with it
   is synced, and it is max(saved + 1, Unix seconds):
   - Killed before the sync: nothing was sealed under the number. Killed after it: the file holds it, and the next one
     is higher. The file is replaced in one step, hence holds one number or the next.
   - The clock jumped back: saved + 1 is higher than every number before it, whatever the clock says.
   - The file is lost, or the disk was restored to an old state: the clock counts then. A number taken from the clock
     is of the second it was taken in; one that is saved + 1 runs ahead of the clock only while starts follow each
     other faster than seconds, or after the clock was wrong and far ahead. A clock that is right now gives a second
     that no clock before gave.
   - File and clock are both lost: `choose_boot_number` refuses, and nothing is sent until the node is enrolled anew.
4. A disk restored to an old state together with a clock that is behind can't be noticed from inside. It is noticed
   from outside: an authentic datagram of our own that is ahead of ours (`Fault.CLONED`), or a REPORT that names a
   boot number or counter of ours that we have not used (`is_ahead`). Whoever learns that stops sending.
"""

from typing import Final

from meshd.base.errors import LocalProtocolError
from meshd.bundle.eid import Eid
from meshd.cl.fountain.datagram import (
    COUNTER_LOW_MASK,
    DATAGRAM_MAX_BYTES,
    HEADER,
    MASK_SAMPLE_BYTES,
    SEAL_BYTES,
)
from meshd.security.boot_number import DurableBootNumber
from meshd.security.datagram_keys import derive_datagram_key, derive_header_mask
from meshd.security.link_keys import LinkKeys
from meshd.security.node_index import node_index
from meshd.security.replay_window import COUNTER_MAX

PLAINTEXT_MAX_BYTES: Final = DATAGRAM_MAX_BYTES - SEAL_BYTES


class Sealer:
    """One node's on one bearer, from start to end of the daemon."""

    def __init__(self, node: Eid, bearer: str, keys: LinkKeys, boot: DurableBootNumber) -> None:
        self.node = node
        self.index = node_index(node, bearer)
        self.boot = boot.number
        self.next_counter = 1
        """The counter of the next datagram."""
        self._bearer = bearer
        self.roll(keys)

    def roll(self, keys: LinkKeys) -> None:
        """Seal under the current one of these epochs from now on."""
        key = keys.keys[keys.current]
        self.epoch = keys.current
        self._mask = derive_header_mask(key, self._bearer)
        self._aead = derive_datagram_key(key, self.node, self._bearer)

    def seal(self, plaintext: bytes) -> bytes:
        """The datagram of these frames, `SEAL_BYTES` longer. Errors: LocalProtocolError: the counter is used up."""
        assert len(plaintext) <= PLAINTEXT_MAX_BYTES
        counter = self.next_counter
        if counter > COUNTER_MAX:
            raise LocalProtocolError("the counter of sealed datagrams is used up: restart the daemon")
        self.next_counter = counter + 1
        header = HEADER.pack(self.index, self.boot, counter >> 32, counter & COUNTER_LOW_MASK)
        sealed = self._aead.encrypt(header, plaintext, None)
        return self._mask(sealed[:MASK_SAMPLE_BYTES], header) + sealed

    def is_ahead(self, boot: int, counter: int) -> bool:
        """True for a boot number and counter of ours that we have not used: stop sending, and say so."""
        return boot > self.boot or (boot == self.boot and counter >= self.next_counter)
