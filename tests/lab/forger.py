# SPDX-License-Identifier: Apache-2.0
"""A program of the lab that puts bad datagrams on a node's wire, as if they came from its neighbour.

    python -m tests.lab.forger JSON

It runs in the namespace of a link's middle ends and sends at the victim's own wire, past the emulated radio: as many a
second as this machine can make. Frames leave without a queue, so that the sniffer is not drowned, too. Prints
{"ready": true} when it has what it needs, and at the end how many it sent in how long.
"""

import contextlib
import ctypes
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshd.bearer.mmsghdr import Header, Message, Part

SOL_PACKET: Final = 263
PACKET_QDISC_BYPASS: Final = 20
ETH_P_ALL: Final = 0x0003
UDP: Final = 17
FRAGMENT_BYTES: Final = 1480
MORE_FRAGMENTS: Final = 0x2000
BATCH: Final = 32
FRAMES: Final = 512
"""Different ones, sent over and over."""
CAPTURE_S: Final = 20.0
CAPTURED: Final = 64
OVERSIZED_BYTES: Final = 4000
COUNT_MAX: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """What to send."""

    kinds: list[str]
    """random, replayed, truncated, damaged, oversized."""
    source_device: str
    """The wire of the node that is imitated."""
    victim_device: str
    source: list[str]
    """MAC and IPv4 address."""
    victim: list[str]
    port: int
    per_s: int
    for_s: float
    size_bytes: int = 100


def checksum(header: bytes) -> int:
    """RFC 791's."""
    total: int = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - (total + (total >> 16) & 0xFFFF)


def make_frames(order: Order, payload: bytes, identification: int) -> list[bytes]:
    """Ethernet frames with one UDP datagram without a checksum, in fragments if it has to be."""
    macs = [bytes.fromhex(each[0].replace(":", "")) for each in (order.victim, order.source)]
    hosts = [socket.inet_aton(each[1]) for each in (order.source, order.victim)]
    datagram = struct.pack("!HHHH", order.port, order.port, len(payload) + 8, 0) + payload
    frames = []
    for offset in range(0, len(datagram), FRAGMENT_BYTES):
        piece = datagram[offset : offset + FRAGMENT_BYTES]
        flags = offset // 8 | (MORE_FRAGMENTS if offset + len(piece) < len(datagram) else 0)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(piece), identification, flags, 64, UDP, 0) + b"".join(hosts)
        head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
        frames.append(b"".join(macs) + b"\x08\x00" + head + piece)
    return frames


def capture(device: str, port: int) -> list[bytes]:
    """Payloads of genuine datagrams of the node that is imitated."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as tap:
        tap.bind((device, ETH_P_ALL))
        found: list[bytes] = []
        until_s = time.monotonic() + CAPTURE_S
        while len(found) < CAPTURED and time.monotonic() < until_s:
            if select.select([tap], [], [], 0.2)[0]:
                frame = tap.recv(65536)
                if frame[12:14] == b"\x08\x00" and frame[23] == UDP and frame[36:38] == port.to_bytes(2, "big"):
                    found.append(frame[42:])
    return found


def make_payload(kind: str, genuine: Sequence[bytes], size_bytes: int, rng: random.Random) -> bytes:
    """One bad datagram."""
    match kind:
        case "random":
            return rng.randbytes(size_bytes)
        case "replayed":
            return rng.choice(genuine)
        case "truncated":
            whole = rng.choice(genuine)
            return whole[: rng.randrange(1, len(whole))]
        case "damaged":
            damaged = bytearray(rng.choice(genuine))
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            return bytes(damaged)
        case "oversized":
            return rng.randbytes(OVERSIZED_BYTES)
        case _:
            raise ValueError(f"unknown kind {kind!r}")


def send_all(sock: socket.socket, frames: Sequence[bytes], per_s: int, for_s: float) -> int:
    """Over and over, at most so many a second; how many."""
    libc = ctypes.CDLL(None, use_errno=True)
    parts = [Part(ctypes.cast(ctypes.c_char_p(frame), ctypes.c_void_p), len(frame)) for frame in frames]
    headers = [Header(parts=ctypes.addressof(part), part_count=1) for part in parts]
    messages = (Message * len(frames))(*[Message(header) for header in headers])
    size = ctypes.sizeof(Message)
    sent = place = 0
    began_s = time.monotonic()
    while (elapsed_s := time.monotonic() - began_s) < for_s and sent < COUNT_MAX:
        due = int(elapsed_s * per_s) - sent
        if due <= 0:
            time.sleep(BATCH / per_s)  # the pace that was ordered
            continue
        count = min(due, BATCH, len(frames) - place)
        done = libc.sendmmsg(sock.fileno(), ctypes.byref(messages, place * size), count, 0)
        # What the wire has no room for is dropped by it, not by us.
        sent += max(done, 1)
        place = (place + max(done, 1)) % len(frames)
    return sent


def say(**fields: float) -> None:
    """One line for the scenario."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> None:
    """The command."""
    order = Order(**json.loads(sys.argv[1]))
    rng = random.Random(1)
    genuine = [] if order.kinds == ["random"] else capture(order.source_device, order.port)
    frames: list[bytes] = []
    for number in range(FRAMES):
        payload = make_payload(order.kinds[number % len(order.kinds)], genuine, order.size_bytes, rng)
        frames += make_frames(order, payload, number)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((order.victim_device, 0))
        sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        with contextlib.suppress(PermissionError):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        say(ready=True)
        began_s = time.monotonic()
        sent = send_all(sock, frames, order.per_s, order.for_s)
        say(sent=sent, took_s=time.monotonic() - began_s)


if __name__ == "__main__":
    main()
