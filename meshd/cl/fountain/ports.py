# SPDX-License-Identifier: Apache-2.0
"""What the fountain machine needs of sealing and tags: `Sealer`, `Opener` and `PairwiseKeys`, or a test's fakes."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from meshd.bundle.eid import Eid
from meshd.cl.fountain.datagram import Opened, Sifted
from meshd.security.pairwise import Verdict
from meshd.security.replay_window import Mark


class Seal(Protocol):
    """`Sealer`."""

    boot: int
    epoch: int
    next_counter: int

    def seal(self, plaintext: bytes) -> bytes:
        """A datagram."""

    def is_ahead(self, boot: int, counter: int) -> bool:
        """True for what we have not sent."""


class Open(Protocol):
    """`Opener`."""

    def sift_untrusted(self, datagrams: Sequence[bytes]) -> Sifted:
        """What is left to be opened."""

    def open_untrusted(self, datagram: bytes) -> Opened | None:
        """Errors: DatagramError."""

    @property
    def waiting_sender(self) -> Eid:
        """Who sealed the datagram that was put aside last."""

    @property
    def is_saving_wanted(self) -> bool:
        """True when there are marks to save."""

    def marks_to_save(self) -> dict[Eid, Mark]:
        """The marks."""

    def saved(self, marks: Mapping[Eid, Mark]) -> list[Opened]:
        """They are on the disk."""


class Tags(Protocol):
    """`PairwiseKeys`."""

    def make_tag(self, peer: Eid, epoch: int, verdict: Verdict, object_id: bytes, digest: bytes) -> bytes:
        """Ours, for this peer."""

    def is_tag_good(self, tag: bytes, peer: Eid, epoch: int, verdict: Verdict, object_id: bytes, digest: bytes) -> bool:
        """True when this peer made it for us."""
