# SPDX-License-Identifier: Apache-2.0
"""A source and a sink of one large bundle, neither of which ever holds it whole.

    python -m tests.bench.support.large_traffic source PORT SIZE TIME_MS    sends one bundle, made at that DTN time
    python -m tests.bench.support.large_traffic sink                        listens, takes one, whatever it takes

The payload is a pattern that is other in each of its pieces; the sink checks it by the payload block's CRC-32C.
"""

import gc
import random
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final

from meshd.bundle import cbor
from meshd.bundle.codec import build
from meshd.bundle.crc import extend_crc32c
from meshd.bundle.eid import NULL_EID
from meshd.bundle.piecewise import PiecewiseScan
from meshd.bundle.scan import scan_untrusted
from meshd.bundle.stored_chunk import StoredChunk
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.settings import Role
from tests.bench.support.tcp_copy import listen, say
from tests.bench.support.traffic import DESTINATION, LIFETIME_MS, SINK_NODE, SOURCE_NODE, Wire

BLOCK_BYTES: Final = 64 * 1024
PATIENCE_S: Final = 600.0
"""The daemon sends on nothing before it has it all."""
SHIFTS: Final = 251
"""A block of the pattern begins so many bytes into a fixed run of bytes at most."""
RUN: Final = random.Random(1).randbytes(BLOCK_BYTES + SHIFTS)


def pattern(start: int, size: int) -> bytes:
    """Bytes of the payload."""
    first, last = start // BLOCK_BYTES, -(-(start + size) // BLOCK_BYTES)
    blocks = [RUN[index % SHIFTS : index % SHIFTS + BLOCK_BYTES] for index in range(first, last)]
    skipped = start - first * BLOCK_BYTES
    return b"".join(blocks)[skipped : skipped + size]


def encode(size: int, time_ms: int) -> list[bytes | StoredChunk]:
    """A bundle whose payload is the pattern."""
    model = build(SOURCE_NODE, DESTINATION, NULL_EID, 0, time_ms, 0, LIFETIME_MS, b"")
    front = model[: scan_untrusted(model).payload_block_offset]
    head = b"\x86\x01\x01\x00\x02" + cbor.encode_bytes_head(size)
    crc = extend_crc32c(0, head)
    for start in range(0, size, BLOCK_BYTES):
        crc = extend_crc32c(crc, pattern(start, min(BLOCK_BYTES, size - start)))
    crc = extend_crc32c(crc, b"\x44" + bytes(4))
    return [front + head, StoredChunk(pattern, 0, size), b"\x44" + crc.to_bytes(4, "big") + b"\xff"]


def run_source(port: int, size: int, time_ms: int) -> None:
    """Until the bundle is acknowledged."""
    chunks = encode(size, time_ms)
    wire = Wire(socket.create_connection(("127.0.0.1", port)), SOURCE_NODE, Role.ACTIVE)
    is_done = False

    def take(event: cl.Event) -> None:
        nonlocal is_done
        if isinstance(event, cl.TransferRefused):
            raise ConnectionError(f"the transfer was refused: {event.reason}")
        is_done |= isinstance(event, cl.TransfersAcknowledged)

    while not wire.session.can_send:
        wire.step(take)
    begin = time.monotonic()
    wire.session.send_transfer(chunks, sum(map(len, chunks)))
    say(begin=begin)
    while not is_done:
        wire.step(take, PATIENCE_S)
    say(end=time.monotonic())


class Sink:
    """Takes one bundle."""

    def __init__(self) -> None:
        self.scan: PiecewiseScan | None = None
        self.size_bytes = 0
        self.taken = 0

    def serve(self, wire: Wire) -> None:
        """Until the bundle is here. Errors: ConnectionError."""

        def take(event: cl.Event) -> None:
            match event:
                case cl.TransferBegun():
                    self.scan, self.size_bytes = None, 0
                case cl.TransferPiece(transfer_id, data):
                    self._take_piece(data)
                    wire.session.release(transfer_id, len(data))
                case cl.TransferEnded(transfer_id, is_whole) if is_whole:
                    assert self.scan is not None
                    self.scan.finish()
                    wire.session.acknowledge([transfer_id])
                    self.taken += 1
                case _:
                    pass

        while not self.taken:
            wire.step(take, PATIENCE_S)
        wire.flush()

    def _take_piece(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if self.scan is None:
            self.scan = PiecewiseScan(data)
        else:
            self.scan.feed(data)


def run_sink() -> None:
    """A daemon that dies comes again."""
    sink = Sink()
    with listen() as listener:
        while not sink.taken:
            sock, _ = listener.accept()
            try:
                sink.serve(Wire(sock, SINK_NODE, Role.PASSIVE))
            except ConnectionError as error:
                say(lost=str(error))
    say(end=time.monotonic(), size_bytes=sink.size_bytes)


def main(arguments: Sequence[str]) -> int:
    """Run one program; an error is a JSON line, too."""
    gc.disable()
    name, *values = arguments
    try:
        if name == "sink":
            run_sink()
        else:
            run_source(*[int(value) for value in values])
    except (OSError, ValueError) as error:
        say(error=f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
