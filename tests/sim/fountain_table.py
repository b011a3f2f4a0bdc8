# SPDX-License-Identifier: Apache-2.0
"""The figures of the fountain convergence layer in virtual time, row by row beside what is asked of them.

`python -m tests.sim.fountain_table [ROW...]`: rows are named steady, file, flash, small, auto, slow, multicast,
blind, bursts, outage, damage and sides. Same seeds, same figures; nothing here depends on the machine.
"""

import random
import sys
from collections.abc import Callable, Sequence
from typing import Final

from meshd.link.settings import Direction
from tests.sim.automatic_rate import auto
from tests.sim.fountain_bulk import BUNDLE_HEAD_BYTES, FLASH, MIB, ROUTINE, Bulk, begin, make, show
from tests.sim.fountain_world import Bursts, Node, World

LOSSES: Final = (0.0, 0.01, 0.05, 0.1, 0.2)


def _has(world: World, count: int) -> Callable[[], bool]:
    """A question to ask again and again: does node 1 have so many bundles?"""
    return lambda: len(world.nodes[1].received) >= count


def steady(loss: float) -> None:
    """10 Mbit/s, 600 ms: share of the capacity, from the first object's completion to the last's."""
    world = make(1, loss)
    begin(world)
    bulk = Bulk(world, MIB, 80)
    bulk.feed()
    world.time.run_until(world.time.now + 200, lambda: len(world.nodes[1].received) == 80)
    done = bulk.done
    goodput = (len(done) - 1) * MIB * 8 / (done[-1] - done[0])
    show(f"steady state, loss {loss:.0%}: share of capacity", goodput / (10e6 * (1 - loss)), 0.93)
    # The same without the first objects, whose completion waits for repair and so flatters the figure.
    goodput = (len(done) - 11) * MIB * 8 / (done[-1] - done[10])
    show("  from the eleventh on", goodput / (10e6 * (1 - loss)), 0.93)


def file(loss: float) -> None:
    """20 MiB from send to the last byte committed, and what it took on the wire."""
    limits = {0.0: 18.6, 0.01: 19.0, 0.05: 20.3, 0.1: 21.8}
    if loss not in limits:
        return
    times, wires = [], []
    for seed in range(5):
        world = make(seed, loss)
        start = begin(world)
        sender = world.nodes[0]
        before = sender.sent_frame_bytes
        bulk = Bulk(world, MIB, 20)
        bulk.feed()
        world.time.run_until(start + 100, _has(world, 20))
        times.append(bulk.done[-1] - start)
        world.time.run_until(world.time.now + 10)
        wires.append((sender.sent_frame_bytes - before) / (20 * MIB))
    show(f"20 MiB file, loss {loss:.0%}: worst of 5, s", max(times), limits[loss], at_most=True)
    show("  bytes on the wire per payload byte", max(wires), 1.07 / (1 - loss) + 0.03, at_most=True)


def flash_times(world: World, count: int, every_s: float, payload_bytes: int = 1024) -> list[float]:
    """Urgent messages among bulk: how long each took."""
    sender, receiver = world.nodes[:2]
    begun: dict[bytes, float] = {}
    rng = random.Random(5)
    for number in range(count):
        world.time.run_until(world.time.now + every_s * rng.uniform(0.5, 1.5))
        data = rng.randbytes(payload_bytes + BUNDLE_HEAD_BYTES)
        begun[data] = world.time.now
        sender.send(receiver.settings.node, ("flash", number), data, FLASH)
    world.time.run_until(world.time.now + 30)
    return sorted(receiver.received.get(data, float("inf")) - at for data, at in begun.items())


def flash(loss: float) -> None:
    """1 KiB FLASH while bulk runs."""
    if loss > 0.1:
        return
    world = make(3, loss)
    begin(world)
    Bulk(world, MIB, 60).feed()
    world.time.run_until(world.time.now + 5)
    times = flash_times(world, 100, 0.3)
    show(f"FLASH during bulk, loss {loss:.0%}: p50, s", times[49], 0.40, at_most=True)
    show(f"  p95, s (max {times[-1]:.3f})", times[94], 0.60, at_most=True)


def small(loss: float) -> None:
    """10 000 bundles of 1 KiB."""
    world = make(4, loss)
    start = begin(world)
    bulk = Bulk(world, 1024, 10_000)
    bulk.feed()
    world.time.run_until(start + 60, lambda: bulk.is_complete)
    goodput = 10_000 * 1024 * 8 / (bulk.done[-1] - start - world.delay_s)
    show(f"10 000 x 1 KiB, loss {loss:.0%}: share of capacity", goodput / (10e6 * (1 - loss)), 0.80)


def slow() -> None:
    """64 kbit/s, 100 ms, 5 %: FLASH of 1 KiB while 10 MiB ROUTINE is running."""
    world = make(5, 0.05)
    world.rates_bps = {0: 64_000, 1: 64_000}
    world.delay_s = 0.1
    begin(world)
    Bulk(world, MIB, 10).feed()
    world.time.run_until(world.time.now + 20)
    times = flash_times(world, 200, 5.0)
    show(f"64 kbit/s, FLASH p50 {times[99]:.3f}, max {times[-1]:.3f}: p95, s", times[189], 0.6, at_most=True)


def multicast() -> None:
    """One sender, five receivers, 5 % independent loss, 10 MiB."""
    world = make(6, 0.05, 6, is_multicast=True)
    start = begin(world)
    sender, *receivers = world.nodes
    before = sender.sent_frame_bytes
    data = [world.rng.randbytes(MIB + BUNDLE_HEAD_BYTES) for _ in range(10)]
    for number, each in enumerate(data):
        for receiver in receivers:
            sender.send(receiver.settings.node, number, each, ROUTINE)
    world.time.run_until(start + 60, lambda: len(sender.acknowledged) == 50)
    complete = sum(all(each in receiver.received for each in data) for receiver in receivers)
    world.time.run_until(world.time.now + 10)
    show("multicast to 5, loss 5%: complete receivers", complete, 5)
    show("  bytes sent per byte of the file", (sender.sent_frame_bytes - before) / (10 * MIB), 1.25, at_most=True)


def blind() -> None:
    """1 MiB to a node that never answers, 20 % loss, 40 % overhead, one pass."""
    complete, back = 0, 0
    for seed in range(100):
        world = make(seed, 0.2, emcon_rtc=0)
        world.blind = {(0, 1)}
        world.overrides = {1: {"direction": Direction.RX}}
        world.build()
        sender, receiver = world.nodes
        data = world.rng.randbytes(MIB + BUNDLE_HEAD_BYTES)
        sender.send(receiver.settings.node, 1, data, ROUTINE)
        world.time.run_until(world.time.now + 10)
        complete += data in receiver.received
        back += receiver.sent_datagrams
    show("blind, loss 20%, overhead 40%: complete of 100", complete, 99)
    show("  frames back", back, 0, at_most=True)


def bursts() -> None:
    """Gilbert-Elliott, 200 ms bursts, 10 % of the time, 2 Mbit/s, 600 ms."""
    shares = []
    for seed in range(3):
        world = make(7, 0)
        world.rates_bps = {0: 2_000_000, 1: 2_000_000}
        world.losses = {pair: Bursts(random.Random(f"{seed} {pair}"), 0.2, 0.1) for pair in ((0, 1), (1, 0))}
        lost = _count(world)
        begin(world)
        bulk = Bulk(world, MIB, 60)
        bulk.feed()
        world.time.run_until(world.time.now + 1000, _has(world, 60))
        done = bulk.done
        loss = lost[1] / lost[0]
        shares.append((len(done) - 6) * MIB * 8 / (done[-1] - done[5]) / (2e6 * (1 - loss)))
    show("bursts of 200 ms, 10% of the time: share of capacity", min(shares), 0.88)


def _count(world: World) -> list[int]:
    """Count datagrams from node 0 and how many of them are lost."""
    counts = [0, 0]
    inner = world.losses[0, 1]

    def counting(now: float) -> bool:
        is_lost = inner(now)
        counts[0] += 1
        counts[1] += is_lost
        return is_lost

    world.losses[0, 1] = counting
    return counts


def _symbols(node: Node) -> int:
    """A number that changes with every symbol that a node takes."""
    return sum(peer.receiver.symbols_taken for peer in node.machine._peers.values())


def _late(node: Node) -> int:
    """Symbols that came though their object was complete."""
    return sum(peer.receiver.symbols_late for peer in node.machine._peers.values())


def outage() -> None:
    """30 s of nothing in the middle of 20 MiB."""
    for phase_s in (0.0, 0.3, 0.7):
        _outage(phase_s)


def _outage(phase_s: float) -> None:
    world = make(8, 0.01)
    start = begin(world)
    sender, receiver = world.nodes
    bulk = Bulk(world, MIB, 20)
    bulk.feed()
    world.time.run_until(start + 8.0 + phase_s)
    world.is_cut = True
    world.time.run_until(start + 38.0 + phase_s)
    world.is_cut = False
    taken = _symbols(receiver)
    world.time.run_until(world.time.now + 100, lambda: _symbols(receiver) != taken)
    show("outage of 30 s: symbols arrive again after, s", world.time.now - start - 38.0 - phase_s, 1.6, at_most=True)
    world.time.run_until(start + 200, lambda: bulk.is_complete)
    show("  complete of 20, each once", len(receiver.received) if receiver.copies == 20 else 0, 20)
    symbols = -(-20 * (MIB + BUNDLE_HEAD_BYTES) // sender.settings.symbol_bytes)
    show("  symbols that came in vain, share", _late(receiver) / symbols, 0.02, at_most=True)


def damage() -> None:
    """Duplicates, reordering of 25 %, corruption of 1 %."""
    world = make(9, 0.0)
    world.duplicate, world.reorder, world.corrupt = 0.1, 0.25, 0.01
    start = begin(world)
    bulk = Bulk(world, MIB, 20)
    bulk.feed()
    world.time.run_until(start + 100, lambda: bulk.is_complete)
    receiver = world.nodes[1]
    show("duplicates, reorder 25%, corrupt 1%: good bundles of 20", len(bulk.done), 20)
    show("  wrong ones", len(set(receiver.received) - set(bulk.all)), 0, at_most=True)
    show("  s", bulk.done[-1] - start, 20.0, at_most=True)


def sides() -> None:
    """A return path of a fiftieth: 10 Mbit/s there, 200 kbit/s back."""
    world = make(10, 0.05)
    world.rates_bps = {0: 10_000_000, 1: 200_000}
    start = begin(world)
    bulk = Bulk(world, MIB, 60)
    bulk.feed()
    world.time.run_until(start + 200, lambda: len(world.nodes[1].received) == 60)
    done = bulk.done
    goodput = (len(done) - 6) * MIB * 8 / (done[-1] - done[5])
    show("1:50, loss 5%: share of capacity", goodput / 9.5e6, 0.93)
    back = world.nodes[1].sent_frame_bytes * 8 / (world.time.now - start)
    show("  share of the return path used", back / 200_000, 0.06, at_most=True)


PER_LOSS: Final[dict[str, Callable[[float], None]]] = {
    "steady": steady,
    "file": file,
    "flash": flash,
    "small": small,
    "auto": auto,
}
ONCE: Final[dict[str, Callable[[], None]]] = {
    "slow": slow,
    "multicast": multicast,
    "blind": blind,
    "bursts": bursts,
    "outage": outage,
    "damage": damage,
    "sides": sides,
}


def main(rows: Sequence[str]) -> None:
    """Print the rows asked for, or all."""
    for name, row in PER_LOSS.items():
        for loss in LOSSES:
            if not rows or name in rows:
                row(loss)
    for name, once in ONCE.items():
        if not rows or name in rows:
            once()


if __name__ == "__main__":
    main(sys.argv[1:])
