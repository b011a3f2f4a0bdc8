# SPDX-License-Identifier: Apache-2.0
"""Which bundles that are here may be superseded, by source and key (private block 201).

A newer one (a higher sequence) drops the older ones that wait or are queued; an older one that comes after it is
dropped itself. What a convergence layer has, and what waits for an application here, is left alone.
"""

from collections.abc import Iterable

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, BundleRecord


class Superseding:
    """Bundles with a supersession block, as long as they are here."""

    def __init__(self) -> None:
        self._sequences: dict[tuple[Eid, bytes], dict[int, dict[BundleId, None]]] = {}

    def add(self, record: BundleRecord) -> None:
        """It is here."""
        value = record.supersession
        if value is not None:
            sequences = self._sequences.setdefault((record.id.source, value.key), {})
            sequences.setdefault(value.sequence, {})[record.id] = None

    def discard(self, record: BundleRecord) -> None:
        """It is gone."""
        value = record.supersession
        if value is None:
            return
        key = record.id.source, value.key
        sequences = self._sequences.get(key)
        if sequences is None or record.id not in sequences.get(value.sequence, ()):
            return
        del sequences[value.sequence][record.id]
        if not sequences[value.sequence]:
            del sequences[value.sequence]
        if not sequences:
            del self._sequences[key]

    def is_superseded(self, record: BundleRecord) -> bool:
        """Whether a newer one is here."""
        value = record.supersession
        if value is None:
            return False
        return max(self._sequences.get((record.id.source, value.key), ()), default=-1) > value.sequence

    def older(self, record: BundleRecord) -> Iterable[BundleId]:
        """Those that it supersedes."""
        value = record.supersession
        if value is None:
            return ()
        sequences = self._sequences.get((record.id.source, value.key), {})
        return [bundle for sequence, bundles in sequences.items() if sequence < value.sequence for bundle in bundles]
