# SPDX-License-Identifier: Apache-2.0
"""The store's oracle: a plain model of what has to be durable, and a seeded run of a real log against it.

A run does random groups, restarts, kills, power cuts in the middle of any call, full disks and failing syncs. After
every start the log has to hold exactly what a prefix of the unanswered groups on top of all answered ones would make.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from meshd.base.errors import StoreError
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.node.commands import ForgottenRow, WriteStore
from meshd.store.recovery import Recovered
from meshd.store.segment_log import SegmentLog
from tests.sim.fake_disk import FakeDisk, PowerCut

HOUR_MS = 3_600_000
_SOURCES = [parse_eid(f"dtn://node{number}/inbox") for number in range(3)]


@dataclass
class StoreModel:
    """What is in the store."""

    live: dict[BundleId, BundleRecord] = field(default_factory=dict)
    released: set[BundleId] = field(default_factory=set)
    until: dict[BundleId, int] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)

    def copy(self) -> "StoreModel":
        """An independent copy."""
        return StoreModel(dict(self.live), set(self.released), dict(self.until), dict(self.notes))

    def apply(self, group: WriteStore) -> None:
        """Do one group."""
        for record in group.puts:
            self.live[record.id] = record
            self.released.discard(record.id)
        for row in group.deletes:
            self.live.pop(row.id, None)
            self.until[row.id] = row.remember_until_ms
        self.released.update(group.releases)
        self.notes.update(group.notes)
        self.notes = {name: value for name, value in self.notes.items() if value}

    def restart(self) -> None:
        """Held bundles are forgotten."""
        self.live = {key: record for key, record in self.live.items() if not self.is_held(key)}

    def is_held(self, key: BundleId) -> bool:
        """True for a part of a submission that is not finished."""
        return self.live[key].held and key not in self.released

    def known(self, now_ms: int) -> dict[BundleId, int]:
        """The duplicate memory."""
        known = {key: until for key, until in self.until.items() if until > now_ms and key not in self.live}
        return known | {key: record.expiry_ms for key, record in self.live.items()}

    def differs(self, recovered: Recovered, log: SegmentLog, now_ms: int) -> str:
        """How a recovered store differs from this model; empty when it does not."""
        ids = {record.id for record in recovered.records}
        if ids != self.live.keys():
            return f"missing {self.live.keys() - ids}, too many {ids - self.live.keys()}"
        unexpected = set(recovered.known) ^ self.known(now_ms).items()
        if unexpected:
            return f"known here or in the model, but not in both: {unexpected}"
        for record in recovered.records:
            if log.read(record.payload) != self.live[record.id].payload.inline:
                return f"the bytes of {record.id}"
        if recovered.notes != self.notes:
            return f"notes {recovered.notes} instead of {self.notes}"
        return "a held bundle" if any(record.held for record in recovered.records) else ""


class StoreRun:
    """One seeded run.

    Args:
        make_disk: a FakeDisk, or a mutated one that the oracle has to catch.
    """

    def __init__(self, seed: int, make_disk: Callable[[random.Random], FakeDisk] = FakeDisk) -> None:
        self.rng = random.Random(seed)
        self.disk = make_disk(random.Random(seed + 1))
        self.segment_bytes = self.rng.choice((2_000, 6_000, 20_000))
        self.model = StoreModel()
        self.now_ms = 820_000_000_000
        self.sequence = 0
        self.unlinks = 0
        self.failures = 0
        self.log = self._open([])

    def run(self, steps: int) -> None:
        """Do that many random steps, then stop cleanly and compare."""
        choices: list[tuple[int, Callable[[], None]]] = [
            (50, self._commit),
            (12, self._reclaim),
            (6, self._advance),
            (6, self._read),
            (4, self._kill),
            (6, self._crash),
            (6, self._power_cut),
            (4, self._failing_sync),
            (4, self._full_disk),
        ]
        weights = [weight for weight, _ in choices]
        for _ in range(steps):
            self.rng.choices(choices, weights)[0][1]()
        self._crash()
        self._read()

    def _open(self, unanswered: list[WriteStore]) -> SegmentLog:
        """Start: the store has to equal the model after some prefix of what was not answered."""
        log = SegmentLog(self.disk, segment_bytes=self.segment_bytes, reserve_bytes=1_000)
        recovered = log.recover(self.now_ms)
        assert not recovered.damage, recovered.damage
        candidate = self.model.copy()
        differences = []
        for group in [None, *unanswered]:
            if group is not None:
                candidate.apply(group)
            started = candidate.copy()
            started.restart()
            differences.append(started.differs(recovered, log, self.now_ms))
            if not differences[-1]:
                break
        assert not differences[-1], differences
        self.model = started
        self._refs = {record.id: record.payload for record in recovered.records}
        return log

    def _groups(self) -> list[WriteStore]:
        """A batch that makes sense on top of the model; IDs come back only when they are not remembered."""
        state = self.model.copy()
        groups = []
        for _ in range(self.rng.choice((1, 2, 5))):
            group = self._group(state)
            state.apply(group)
            groups.append(group)
        return groups

    def _group(self, state: StoreModel) -> WriteStore:
        rng = self.rng
        puts = [self._record(state) for _ in range(rng.choice((0, 0, 1, 1, 2, 4)))]
        live = list(state.live)
        if rng.random() < 0.7:
            live.reverse()
        share = rng.choice((0, 0, 1, 3, 8, len(live) - 1, len(live)))
        times = (-self.now_ms, 1, HOUR_MS, 30 * HOUR_MS)
        deletes = [ForgottenRow(key, self.now_ms + rng.choice(times)) for key in live[: max(share, 0)]]
        held = [key for key in live[max(share, 0) :] if state.is_held(key)]
        notes = {f"note{rng.randrange(4)}": rng.randbytes(rng.randrange(6)) for _ in range(rng.choice((0, 0, 0, 1, 2)))}
        unique = {record.id: record for record in puts}
        return WriteStore(list(unique.values()), deletes, held[: rng.choice((0, 1, 5))], notes)

    def _record(self, state: StoreModel) -> BundleRecord:
        rng = self.rng
        free = [key for key, until in state.until.items() if until <= self.now_ms and key not in state.live]
        if free and rng.random() < 0.2:
            key = rng.choice(free)
        else:
            self.sequence += 1
            key = BundleId(rng.choice(_SOURCES), 5, self.sequence)
        data = rng.randbytes(rng.choice((1, 40, 300, 1500)))
        ref = PayloadRef(-1, 0, len(data), data)
        expiry_ms = self.now_ms + 1000 * HOUR_MS
        held = rng.random() < 0.2
        return BundleRecord(key, _SOURCES[0], 1, expiry_ms, self.now_ms, len(data), 0, False, None, None, held, ref)

    def _commit(self, may_fail: bool = False) -> None:
        groups = self._groups()
        try:
            results = self.log.commit(groups)
        except PowerCut:
            self._come_back(groups)
            return
        for group, result in zip(groups, results, strict=True):
            if isinstance(result, StoreError):
                assert may_fail, result
                self.failures += 1
                continue
            self.model.apply(group)
            self._refs.update((row.id, row.payload) for row in result)

    def _reclaim(self) -> None:
        try:
            while self.log.reclaim(self.now_ms):
                self.unlinks += 1
        except PowerCut:
            self._come_back([])

    def _come_back(self, unanswered: list[WriteStore]) -> None:
        """After the power, or only the process: then the page cache is still there, and has to be synced."""
        self.disk.power_cut_in = 0
        if self.rng.random() < 0.7:
            self.disk.crash()
        self.log = self._open(unanswered)

    def _advance(self) -> None:
        self.now_ms += self.rng.choice((1, HOUR_MS // 2, 2 * HOUR_MS, 40 * HOUR_MS))

    def _read(self) -> None:
        for key in list(self.model.live)[:5]:
            assert self.log.read(self._refs[key]) == self.model.live[key].payload.inline
        assert self.log.usage.bundles == len(self.model.live)
        assert self.log.usage.live_bytes == sum(record.size_bytes for record in self.model.live.values())

    def _kill(self) -> None:
        """The process ends between two commits."""
        self.log = self._open([])

    def _crash(self) -> None:
        self.disk.crash()
        self.log = self._open([])

    def _power_cut(self) -> None:
        self.disk.power_cut_in = self.rng.choice((1, 1, 2, 2, 3, 4, 5))
        self.rng.choice((self._commit, self._commit, self._reclaim))()
        self.disk.power_cut_in = 0

    def _failing_sync(self) -> None:
        self.disk.fail_datasync_in = 1
        self._commit(may_fail=True)
        self.disk.fail_datasync_in = 0

    def _full_disk(self) -> None:
        used_bytes = self.disk.capacity_bytes - self.disk.free_bytes()
        capacity_bytes, self.disk.capacity_bytes = self.disk.capacity_bytes, used_bytes + self.rng.randrange(4_000)
        self._commit(may_fail=True)
        self.disk.capacity_bytes = capacity_bytes
