# SPDX-License-Identifier: Apache-2.0
"""The store's oracle: a plain model of what has to be durable, and a seeded run of a real log against it.

A run does random groups, large bundles in pieces, restarts, kills, power cuts in the middle of any call, full and
read-only disks and failing syncs. After every start the log has to hold exactly what a prefix of the unanswered groups
on top of all answered ones would make. At its end a bit may be flipped: what is read then is right, or an error.
"""

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from meshd.base.errors import StoreError
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.node.commands import ForgottenRow, WriteStore
from meshd.store.large_file import BLOCK_BYTES
from meshd.store.recovery import Recovered
from meshd.store.segment_log import SegmentLog
from meshd.store.stream_handle import StreamHandle, StreamState
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
    large: dict[int, bytes] = field(default_factory=dict)
    """What was streamed into the file of each number; all copies share it."""

    def copy(self) -> "StoreModel":
        """An independent copy."""
        return StoreModel(dict(self.live), set(self.released), dict(self.until), dict(self.notes), self.large)

    def apply(self, group: WriteStore) -> None:
        """Do one group."""
        for record in group.puts:
            self.live[record.id] = record
            self.released.discard(record.id)
        for row in group.deletes:
            self.live.pop(row.id, None)
            self.until[row.id] = max(row.remember_until_ms, self.until.get(row.id, 0))
        self.released.update(group.releases)
        self.notes.update(group.notes)
        self.notes = {name: value for name, value in self.notes.items() if value}

    def bundle(self, key: BundleId) -> bytes:
        """The bytes of a live bundle."""
        ref = self.live[key].payload
        return self.large[ref.segment] if ref.inline is None else ref.inline

    def restart(self) -> None:
        """Held bundles are forgotten."""
        self.live = {key: record for key, record in self.live.items() if not self.is_held(key)}

    def is_held(self, key: BundleId) -> bool:
        """True for a part of a submission that is not finished."""
        return self.live[key].held and key not in self.released

    def known(self, now_ms: int) -> dict[BundleId, int]:
        """The duplicate memory beyond the live bundles, which all live longer than their IDs were remembered before."""
        return {key: until for key, until in self.until.items() if until > now_ms and key not in self.live}

    def differs(self, recovered: Recovered, log: SegmentLog, now_ms: int) -> str:
        """How a recovered store differs from this model; empty when it does not."""
        ids = {record.id for record in recovered.records}
        if ids != self.live.keys():
            return f"missing {self.live.keys() - ids}, too many {ids - self.live.keys()}"
        unexpected = set(recovered.known) ^ self.known(now_ms).items()
        if unexpected:
            return f"known here or in the model, but not in both: {unexpected}"
        for record in recovered.records:
            if log.read(record.payload) != self.bundle(record.id):
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
        self.flips = 0
        self.moves = 0
        self.ever: dict[BundleId, list[bytes]] = {}
        """All that was ever put under an ID that may come back."""
        self.streams: list[tuple[StreamHandle, bytearray]] = []
        self.finished: list[PayloadRef] = []
        self.large = 0
        self.log = self._open([])

    def run(self, steps: int) -> None:
        """Do that many random steps, then stop cleanly and compare."""
        choices: list[tuple[int, Callable[[], None]]] = [
            (50, self._commit),
            (12, self._reclaim),
            (16, self._stream),
            (3, self._scrub),
            (3, self._read_only),
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
        self.streams, self.finished = [], []
        files = [name for name in self.disk.names() if name.endswith(".big")]
        assert len(files) == sum(record.payload.inline is None for record in self.model.live.values()), files
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
        if rng.random() < 0.2:
            rng.shuffle(live)
        share = rng.choice((0, 0, 1, 3, 8, len(live) * 7 // 8, len(live) - 1, len(live)))
        times = (-self.now_ms, 1, HOUR_MS, 30 * HOUR_MS)
        deletes = [ForgottenRow(key, self.now_ms + rng.choice(times)) for key in live[: max(share, 0)]]
        held = [key for key in live[max(share, 0) :] if state.is_held(key)]
        notes = {f"note{rng.randrange(4)}": rng.randbytes(rng.randrange(6)) for _ in range(rng.choice((0, 0, 0, 1, 2)))}
        if self.finished and rng.random() < 0.5:
            puts.append(self._large_record(self.finished.pop()))
        unique = {record.id: record for record in puts}
        return WriteStore(list(unique.values()), deletes, held[: rng.choice((0, 1, 5))], notes)

    def _record(self, state: StoreModel) -> BundleRecord:
        rng = self.rng
        free = [key for key in state.until if key not in state.live]
        if free and rng.random() < 0.2:
            key = rng.choice(free)
        else:
            self.sequence += 1
            key = BundleId(rng.choice(_SOURCES), 5, self.sequence)
        data = rng.randbytes(rng.choice((1, 40, 300, 1500)))
        self.ever.setdefault(key, []).append(data)
        ref = PayloadRef(-1, 0, len(data), data)
        expiry_ms = self.now_ms + 1000 * HOUR_MS
        held = rng.random() < 0.2
        return BundleRecord(key, _SOURCES[0], 1, expiry_ms, self.now_ms, len(data), 0, False, None, None, held, ref)

    def _large_record(self, ref: PayloadRef) -> BundleRecord:
        self.sequence += 1
        key = BundleId(_SOURCES[1], 5, self.sequence)
        expiry_ms = self.now_ms + 1000 * HOUR_MS
        return BundleRecord(key, _SOURCES[0], 1, expiry_ms, 7, ref.size_bytes, 0, False, None, None, False, ref)

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
                self.finished += [record.payload for record in group.puts if record.payload.inline is None]
                continue
            self.large += sum(record.payload.inline is None for record in group.puts)
            self.model.apply(group)
            self._refs.update((row.id, row.payload) for row in result)

    def _reclaim(self) -> None:
        try:
            segments = self.log.usage.segments
            steps = self.rng.choice((1, 2, 1 << 30))
            while steps and self.log.reclaim(self.now_ms):
                steps -= 1
            self.unlinks += segments - self.log.usage.segments
            self.moves += self.log.usage.relocations
        except PowerCut:
            self._come_back([])

    def _stream(self, may_fail: bool = False) -> None:
        """One step of a large bundle."""
        try:
            self._stream_step()
        except PowerCut:
            self._come_back([])
        except StoreError:
            assert may_fail
            self.failures += 1
            self.streams = [pair for pair in self.streams if pair[0].state is StreamState.OPEN]

    def _stream_step(self) -> None:
        rng = self.rng
        if len(self.streams) < 2:
            self.streams.append((self.log.begin_stream(), bytearray()))
        index = rng.randrange(len(self.streams))
        handle, sent = self.streams[index]
        kind = rng.random() if sent else 0.0
        if kind < 0.4:
            piece = rng.randbytes(rng.choice((1, 900, 40_000, BLOCK_BYTES)))
            handle.append(piece)
            sent += piece
        elif kind < 0.9:
            ref = handle.finish()
            self.model.large[ref.segment] = bytes(sent)
            self.finished.append(ref)
            del self.streams[index]
        else:
            handle.abort()
            del self.streams[index]

    def _scrub(self) -> None:
        """Nothing is damaged."""
        report = self.log.scrub(self.rng.choice((1, 5_000, 1 << 30)))
        assert not report.problems, report

    def flip_a_bit(self) -> None:
        """Damage one bit of what is durable: nothing may be read wrong, and nothing may be missing in silence."""
        names = [name for name in sorted(self.disk.names()) if self.disk.size_bytes(name)]
        if not names:
            return
        name = self.rng.choice(names)
        self.disk.flip_bit(name, self.rng.randrange(self.disk.size_bytes(name)))
        self.flips += 1
        unreadable = {key for key, ref in self._refs.items() if key in self.model.live and not self._is_right(key, ref)}
        self.log.scrub(1 << 40)  # ends the round that was under way
        report = self.log.scrub(1 << 40)
        assert {row.id for row in report.damaged} == unreadable, (report, unreadable)
        log = SegmentLog(self.disk, segment_bytes=self.segment_bytes, reserve_bytes=1_000)
        try:
            recovered = log.recover(self.now_ms)
        except StoreError as error:
            raise AssertionError(f"a flipped bit must not stop the start: {error}") from error
        started = self.model.copy()
        started.restart()
        is_told = bool(recovered.damage or recovered.torn_bytes)
        ids = {record.id for record in recovered.records}
        assert is_told or ids == started.live.keys(), "bundles are missing or too many, and nothing is said"
        for record in recovered.records:
            if record.id in started.live:
                self._check_right(started, log, record)

    def _is_right(self, key: BundleId, ref: PayloadRef) -> bool:
        try:
            data = self.log.read(ref)
        except StoreError:
            return False
        assert data == self.model.bundle(key), f"{key} is read wrong"
        return True

    def _check_right(self, model: StoreModel, log: SegmentLog, record: BundleRecord) -> None:
        """Where the damage took the newest bundle of an ID, an earlier one may be back: that is told."""
        try:
            data = log.read(record.payload)
        except StoreError:
            return
        allowed = [model.bundle(record.id), *self.ever.get(record.id, ())]
        assert data in allowed, f"{record.id} is read wrong after the start"

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
            assert self.log.read(self._refs[key]) == self.model.bundle(key)
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
        self.rng.choice((self._commit, self._commit, self._reclaim, self._stream))()
        self.disk.power_cut_in = 0

    def _failing_sync(self) -> None:
        self.disk.fail_datasync_in = 1
        self.rng.choice((self._commit, self._commit, self._stream))(may_fail=True)
        self.disk.fail_datasync_in = 0

    def _full_disk(self) -> None:
        used_bytes = self.disk.capacity_bytes - self.disk.free_bytes()
        capacity_bytes, self.disk.capacity_bytes = self.disk.capacity_bytes, used_bytes + self.rng.randrange(4_000)
        self.rng.choice((self._commit, self._commit, self._stream))(may_fail=True)
        self.disk.capacity_bytes = capacity_bytes

    def _read_only(self) -> None:
        self.disk.fail = dict.fromkeys(("append", "create", "truncate", "unlink"), errno.EROFS)
        self.rng.choice((self._commit, self._stream))(may_fail=True)
        self.disk.fail = {}
