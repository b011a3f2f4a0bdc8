# SPDX-License-Identifier: Apache-2.0
"""Bundles, groups and logs for the store's tests."""

import random
from pathlib import Path

from meshd.base.errors import StoreError
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId, BundleRecord, Part, PayloadRef
from meshd.node.commands import ForgottenRow, WriteStore
from meshd.node.events import StoredRow
from meshd.store.disk import Disk, RealDisk
from meshd.store.recovery import Recovered
from meshd.store.segment_log import SegmentLog
from tests.sim.fake_disk import FakeDisk

SOURCE = parse_eid("dtn://dpop1/inbox")
DESTINATION = parse_eid("dtn://home/inbox")
NOW_MS = 820_000_000_000
HOUR_MS = 3_600_000


def bundle_id(sequence: int) -> BundleId:
    """An ID of our own."""
    return BundleId(SOURCE, NOW_MS, sequence)


def record(
    sequence: int, data: bytes = b"bundle", expiry_ms: int = NOW_MS + 24 * HOUR_MS, held: bool = False
) -> BundleRecord:
    """A bundle to put."""
    return BundleRecord(
        bundle_id(sequence),
        DESTINATION,
        1,
        expiry_ms,
        NOW_MS,
        len(data),
        0,
        False,
        parse_eid("dtn://dpop2/"),
        Part(NOW_MS, 0, sequence, 0, True),
        held,
        PayloadRef(-1, 0, len(data), data),
    )


def put(*sequences: int, data: bytes = b"bundle", held: bool = False) -> WriteStore:
    """A group of puts."""
    return WriteStore(puts=[record(sequence, data, held=held) for sequence in sequences])


def delete(*sequences: int, until_ms: int = NOW_MS + 24 * HOUR_MS) -> WriteStore:
    """A group of deletions."""
    return WriteStore(deletes=[ForgottenRow(bundle_id(sequence), until_ms) for sequence in sequences])


def fake_disk(seed: int = 1) -> FakeDisk:
    """A disk that forgets."""
    return FakeDisk(random.Random(seed))


def open_log(disk: Disk, segment_bytes: int = 1 << 20) -> tuple[SegmentLog, Recovered]:
    """A log that has recovered. It keeps a small reserve only."""
    log = SegmentLog(disk, segment_bytes=segment_bytes, reserve_bytes=4096)
    return log, log.recover()


def real_disk(directory: Path) -> RealDisk:
    """A disk in a directory of a test."""
    return RealDisk(directory / "store")


def commit(log: SegmentLog, *groups: WriteStore) -> list[list[StoredRow]]:
    """Commit groups that have to succeed."""
    results = log.commit(groups)
    rows = [result for result in results if not isinstance(result, StoreError)]
    assert len(rows) == len(groups), results
    return rows


def sequences(recovered: Recovered) -> set[int]:
    """Sequence numbers of the live bundles."""
    return {item.id.sequence for item in recovered.records}


def known(recovered: Recovered) -> dict[int, int]:
    """The duplicate memory by sequence number; live bundles are in it until they expire."""
    live = {item.id.sequence: item.expiry_ms for item in recovered.records}
    return live | {item.sequence: until for item, until in recovered.known}
