# SPDX-License-Identifier: Apache-2.0
"""What the fountain layer's way of datagrams costs: CPU time for each, off and onto a loopback socket.

Refused ones as in a flood, by a node with three key epochs: noise, replays, damaged ones (whose seal has to be looked
at). Genuine ones opened. Sent: alone, and as many of one size as a late timer leaves to be made up for. A flood of
100 000 noise datagrams a second takes a tenth of a core for each microsecond. One process, one thread.

    python -m tests.bench.datagrams [--quick] [--json]
"""

import dataclasses
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from meshd.bearer.datagram_socket import TURN_DATAGRAMS, DatagramSocket
from meshd.bearer.sockets import Address, parse_address
from meshd.bundle.eid import parse_eid
from meshd.cl.fountain.datagram import DatagramError
from meshd.cl.fountain.opener import Opener
from meshd.cl.fountain.sealer import Sealer
from meshd.security.boot_number import DurableBootNumber
from meshd.security.link_keys import LinkKeys
from meshd.security.replay_window import Mark
from tests.bench.support.harness import BenchError, print_table, run_main
from tests.unit.bearer.fountain_peers import radio_settings

HERE, THERE = parse_eid("dtn://here/"), parse_eid("dtn://there/")
KEYS: Final = LinkKeys({epoch: bytes([epoch]) * 32 for epoch in (1, 2, 3)}, 2)
BEARER: Final = "satcom0"
NOISE_BYTES: Final = 100
PLAINTEXT_BYTES: Final = 1444
"""With the seal, a whole Ethernet frame of UDP over IPv4."""
TURNS: Final = {True: 20, False: 200}
REPEATS: Final = 5
RUNS: Final = (1, 4, 16)


class Bench:
    """A node's opener behind its socket, and who sends to it."""

    def __init__(self) -> None:
        settings = dataclasses.replace(radio_settings(listen="127.0.0.1:0"), device="lo")
        self.sender, self.receiver = DatagramSocket(settings), DatagramSocket(settings)
        self.place: Address = parse_address(self.receiver.bound_address)[1]
        self.sealer = Sealer(THERE, BEARER, KEYS, DurableBootNumber(2))
        # Far ahead, so that nothing waits for a disk.
        marks = {THERE: Mark(1, 1)}
        self.opener = Opener(
            [HERE, THERE], BEARER, KEYS, marks, 1 << 30, Sealer(HERE, BEARER, KEYS, DurableBootNumber(1))
        )
        self.take([self.sealer.seal(b"first")])
        self.opener.saved(self.opener.marks_to_save())

    def take(self, datagrams: Sequence[bytes]) -> int:
        """As a bearer does; how many were opened."""
        opened = 0
        for each in self.opener.sift_untrusted(datagrams).datagrams:
            try:
                self.opener.open_untrusted(each)
            except DatagramError:
                continue
            opened += 1
        return opened

    def seal_turn(self) -> list[bytes]:
        """Genuine and new."""
        return [self.sealer.seal(bytes(PLAINTEXT_BYTES)) for _ in range(TURN_DATAGRAMS)]

    def receive_us(self, turns: int, make: Callable[[], Sequence[bytes]], opened: int) -> float:
        """One datagram off the socket and opened or refused. Errors: BenchError."""
        spent_ns = 0
        for _ in range(turns):
            self.sender.send(make(), self.place)
            since_ns = time.thread_time_ns()
            datagrams = self.receiver.receive()
            found = self.take(datagrams)
            spent_ns += time.thread_time_ns() - since_ns
            if (len(datagrams), found) != (TURN_DATAGRAMS, opened):
                raise BenchError(f"{found} of {len(datagrams)} datagrams were opened, not {opened} of {TURN_DATAGRAMS}")
        return spent_ns / turns / TURN_DATAGRAMS / 1000

    def send_us(self, turns: int, count: int) -> float:
        """One datagram of so many that leave together, onto the loopback device and into the other socket."""
        run = [bytes(PLAINTEXT_BYTES)] * count
        spent_ns = 0
        for _ in range(turns):
            since_ns = time.thread_time_ns()
            self.sender.send(run, self.place)
            spent_ns += time.thread_time_ns() - since_ns
            while self.receiver.receive():
                pass
        return spent_ns / turns / count / 1000


def damage(datagram: bytes) -> bytes:
    """One bit of the sealed part, behind what the header's mask is made of."""
    return datagram[:40] + bytes([datagram[40] ^ 1]) + datagram[41:]


def measure(quick: bool) -> dict[str, float]:
    """The least of some repetitions: what the others have more is other processes'."""
    bench, rng, turns = Bench(), random.Random(1), TURNS[quick]
    noise = [rng.randbytes(NOISE_BYTES) for _ in range(TURN_DATAGRAMS)]
    replayed = bench.seal_turn()
    bench.take(replayed)
    damaged = [damage(each) for each in bench.seal_turn()]
    figures: dict[str, float] = {}
    for name, make, opened in (
        ("refuse_noise_us", lambda: noise, 0),
        ("refuse_replayed_us", lambda: replayed, 0),
        ("refuse_damaged_us", lambda: damaged, 0),
        ("open_us", bench.seal_turn, TURN_DATAGRAMS),
    ):
        figures[name] = min(bench.receive_us(turns // REPEATS, make, opened) for _ in range(REPEATS))
    for count in RUNS:
        figures[f"send_{count}_us"] = min(bench.send_us(turns, count) for _ in range(REPEATS))
    rows = [("CPU time for each datagram", "us"), *((name, f"{value:.2f}") for name, value in figures.items())]
    print_table(f"datagrams in turns of {TURN_DATAGRAMS}, three key epochs; sent {RUNS} at a time", rows)
    return figures


if __name__ == "__main__":
    sys.exit(run_main("CPU time of sealed datagrams: refused, opened, sent.", measure))
