# SPDX-License-Identifier: Apache-2.0
"""How fast the store is: durable puts, large bundles, the writer thread, recovery, memory; beside the bare disk. And
what a bundle costs of the interpreter that the writer thread shares with the event loop.

Each rate of durable puts stands beside a bare write and fdatasync of the same bytes in the same run, taken in turns,
since a shared disk changes from minute to minute. Run it as `python tests/bench/store.py [--quick] [--json] [--dir
DIR]`; DIR has to be on the disk that is to be measured.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import trio

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from meshd.base.errors import StoreError
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.node.commands import ForgottenRow, WriteStore
from meshd.store.disk import RealDisk
from meshd.store.segment_log import SegmentLog
from meshd.store.writer import Outcome, StoreWriter
from tests.bench.support.harness import quick_share

NOW_MS = 820_000_000_000
SOURCE = parse_eid("dtn://dpop1/inbox")
DESTINATION = parse_eid("dtn://home/inbox")
ROUNDS = 3


def records(first: int, count: int, size_bytes: int) -> list[BundleRecord]:
    """Bundles with bytes of their own."""
    made = []
    for sequence in range(first, first + count):
        data = sequence.to_bytes(8, "big") * (size_bytes // 8)
        ref = PayloadRef(-1, 0, len(data), data)
        key = BundleId(SOURCE, NOW_MS, sequence)
        made.append(
            BundleRecord(key, DESTINATION, 1, NOW_MS + 10**9, NOW_MS, len(data), 4, False, None, None, False, ref)
        )
    return made


def groups_of(bundles: Sequence[BundleRecord], group_size: int) -> list[WriteStore]:
    """Groups of so many puts."""
    return [WriteStore(puts=bundles[start : start + group_size]) for start in range(0, len(bundles), group_size)]


def log_seconds(directory: Path, batches: Sequence[Sequence[WriteStore]]) -> float:
    """Time to commit these batches, one after the other."""
    with tempfile.TemporaryDirectory(dir=directory) as place:
        disk = RealDisk(Path(place) / "store")
        log = SegmentLog(disk)
        log.recover()
        began = time.perf_counter()
        results = [log.commit(batch) for batch in batches]
        seconds = time.perf_counter() - began
        assert not any(isinstance(result, StoreError) for batch in results for result in batch)
        disk.close()
    return seconds


def bare_seconds(directory: Path, batches: Sequence[Sequence[WriteStore]]) -> float:
    """Time to write and fdatasync the same bundles to a file, without any store."""
    joined = [b"".join([record.payload.inline or b"" for group in batch for record in group.puts]) for batch in batches]
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        began = time.perf_counter()
        for data in joined:
            view = memoryview(data)
            while view:
                view = view[os.write(file.fileno(), view) :]
            os.fdatasync(file.fileno())
        return time.perf_counter() - began


def durable_puts(directory: Path, size_bytes: int, group_size: int, count: int) -> tuple[float, float]:
    """Bundles a second through the log and through the bare file: medians over rounds in turns."""
    batches = [[group] for group in groups_of(records(0, count, size_bytes), group_size)]
    pairs = [(log_seconds(directory, batches), bare_seconds(directory, batches)) for _ in range(ROUNDS)]
    return count / statistics.median(pair[0] for pair in pairs), count / statistics.median(pair[1] for pair in pairs)


async def through_the_writer(directory: Path, count: int, group_size: int) -> float:
    """Bundles a second (1 KiB) from the trio thread through the writer thread and back."""
    answered, room = trio.Event(), trio.Event()
    groups = groups_of(records(0, count, 1024), group_size)
    left = len(groups)

    def on_done(outcomes: Sequence[Outcome]) -> None:
        nonlocal left
        left -= len(outcomes)
        room.set()
        if not left:
            answered.set()

    def on_trouble(error: StoreError) -> None:
        raise error

    with tempfile.TemporaryDirectory(dir=directory) as place:
        disk = RealDisk(Path(place) / "store")
        log = SegmentLog(disk)
        log.recover()
        writer = StoreWriter(log, on_done, on_trouble, lambda: NOW_MS, lambda _: None, lambda _, __: None)
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: writer.run(task_status=task_status))
            began = time.perf_counter()
            for start in range(0, len(groups), 16):
                if writer.is_full:
                    room = trio.Event()
                    await room.wait()
                for group in groups[start : start + 16]:
                    writer.submit(group)
                await trio.lowlevel.checkpoint()
            await answered.wait()
            seconds = time.perf_counter() - began
            await writer.close()
        disk.close()
    return count / seconds


class _NoDisk(RealDisk):
    """Writes and syncs nothing: what remains is the store's own work."""

    def append(self, name: str, buffers: Sequence[bytes | memoryview]) -> None:
        """Nothing."""

    def datasync(self, name: str) -> None:
        """Nothing."""


def cpu_us(directory: Path, group_size: int, count: int) -> float:
    """Microseconds of CPU to put and later delete a bundle of 1 KiB, in commits of so many puts and deletions."""
    best_s = float("inf")
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=directory) as place:
            disk = _NoDisk(Path(place) / "store")
            log = SegmentLog(disk)
            log.recover()
            commits: list[list[WriteStore]] = []
            forgotten: list[ForgottenRow] = []
            for group in groups_of(records(0, count, 1024), group_size):
                commits.append([group, WriteStore(deletes=forgotten)])
                forgotten = [ForgottenRow(record.id, NOW_MS + 10**9) for record in group.puts]
            gc.collect()
            began = time.process_time()
            for groups in commits:
                log.commit(groups)
            best_s = min(best_s, time.process_time() - began)
            disk.close()
    return best_s / count * 1e6


def streaming(directory: Path, size_bytes: int) -> tuple[float, float, float]:
    """One large bundle in pieces of 1 MiB: MB/s in, MB/s out, and by how many MB the process grew."""
    piece = os.urandom(1 << 20)
    with tempfile.TemporaryDirectory(dir=directory) as place:
        disk = RealDisk(Path(place) / "store")
        log = SegmentLog(disk)
        log.recover()
        before = resident_bytes()
        began = time.perf_counter()
        handle = log.begin_stream(size_bytes)
        for _ in range(size_bytes // len(piece)):
            handle.append(piece)
        ref = handle.finish()
        [record] = records(0, 1, 8)
        [result] = log.commit([WriteStore(puts=[msgspec.structs.replace(record, size_bytes=size_bytes, payload=ref)])])
        assert not isinstance(result, StoreError)
        written = time.perf_counter()
        for offset in range(0, size_bytes, len(piece)):
            assert log.read_piece(ref, offset, len(piece)) == piece
        read = time.perf_counter()
        grown_bytes = resident_bytes() - before
        disk.close()
    return size_bytes / (written - began) / 1e6, size_bytes / (read - written) / 1e6, grown_bytes / 1e6


def recovery(directory: Path, bundles: int, *, with_deleted: bool) -> tuple[float, float]:
    """Seconds to recover that many live bundles and as many deleted ones, and bytes of memory per live bundle."""
    with tempfile.TemporaryDirectory(dir=directory) as place:
        disk = RealDisk(Path(place) / "store")
        log = SegmentLog(disk)
        log.recover()
        for start in range(0, bundles * (1 + with_deleted), 500):
            made = records(start, 500, 200)
            forgotten = [ForgottenRow(record.id, NOW_MS + 10**9) for record in made[::2]] if with_deleted else []
            log.commit([WriteStore(puts=made), WriteStore(deletes=forgotten)])
        disk.close()
        del log
        gc.collect()
        disk = RealDisk(Path(place) / "store")
        before = resident_bytes()
        log = SegmentLog(disk)
        began = time.perf_counter()
        recovered = log.recover(NOW_MS)
        seconds = time.perf_counter() - began
        assert len(recovered.records) == bundles
        assert len(recovered.known) == bundles * with_deleted
        used_bytes = resident_bytes() - before
        disk.close()
    return seconds, used_bytes / bundles


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the store beside the bare disk.")
    parser.add_argument("--quick", action="store_true", help="fewer bundles: under 50 s")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="directory on the disk to measure")
    options = parser.parse_args()
    share = quick_share() if options.quick else 1.0
    scale = share if options.quick else 4
    figures: dict[str, float] = {}
    print(f"python {sys.version.split()[0]}, {os.cpu_count()} CPUs, directory {options.dir}")
    for group_size, count in ((1, 1500), (32, 16_000), (256, 48_000)):
        log, bare = durable_puts(options.dir, 1024, group_size, int(count * scale))
        figures[f"puts_per_s_1k_group_{group_size}"] = log
        figures[f"bare_per_s_1k_group_{group_size}"] = bare
        print(
            f"1 KiB, {group_size:3} a sync: {log:9,.0f} puts/s; bare write + fdatasync {bare:9,.0f}/s: {log / bare:.2f}"
        )
    log, bare = (rate * 1.048576 for rate in durable_puts(options.dir, 1 << 20, 4, int(100 * scale)))
    figures["mbyte_per_s_1m"], figures["bare_mbyte_per_s_1m"] = log, bare
    print(f"1 MiB,   4 a sync: {log:9,.0f} MB/s;   bare write + fdatasync {bare:7,.0f} MB/s: {log / bare:.2f}")
    for group_size in (1, 32):
        rate = trio.run(through_the_writer, options.dir, int(50_000 * scale), group_size)
        figures[f"writer_puts_per_s_1k_group_{group_size}"] = rate
        print(f"1 KiB, {group_size:3} a group through the writer thread: {rate:,.0f} puts/s")
    for group_size in (64, 512):
        figures[f"cpu_us_per_bundle_group_{group_size}"] = used = cpu_us(options.dir, group_size, int(12_800 * scale))
        print(
            f"1 KiB, put and deleted, {group_size:3} a commit: {used:.2f} microseconds of CPU a bundle without the disk"
        )
    large_mib = int(256 * scale)
    figures["stream_in_mbyte_per_s"], figures["stream_out_mbyte_per_s"], grown = streaming(options.dir, large_mib << 20)
    print(
        f"a bundle of {large_mib} MiB in pieces of 1 MiB: {figures['stream_in_mbyte_per_s']:,.0f} MB/s in, "
        f"{figures['stream_out_mbyte_per_s']:,.0f} MB/s out, the process grew by {grown:.0f} MB"
    )
    live = int(200_000 * share)
    figures["recovery_s_200k"], figures["memory_bytes_per_bundle"] = recovery(options.dir, live, with_deleted=True)
    print(
        f"recovery of {live} live bundles and as many deleted ones: {figures['recovery_s_200k']:.2f} s, "
        f"{figures['memory_bytes_per_bundle']:.0f} bytes of memory per live bundle, records and memory of both included"
    )
    if not options.quick:
        figures["recovery_s_1m"], used = recovery(options.dir, 1_000_000, with_deleted=False)
        print(f"recovery of 1 000 000 live bundles: {figures['recovery_s_1m']:.2f} s, {used:.0f} bytes of memory each")
    if options.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
