# SPDX-License-Identifier: Apache-2.0
"""Cheap programs that the benchmarks put around a daemon: a source and a sink of bundles.

    python -m tests.bench.support.traffic source PORT SIZE COUNT SERIES     sends COUNT bundles to the daemon at PORT
    python -m tests.bench.support.traffic sink SIZE:COUNT ...               listens, takes one batch after the other

Each prints JSON lines. A payload is its number, then filler: the sink checks every byte and every number, so that a
lost, doubled or changed bundle fails the benchmark. Bundles are encoded before the clock starts.
"""

import gc
import os
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from meshd.bearer.stream import ByteStream, PlainStream
from meshd.bearer.tls import TlsIdentity
from meshd.bundle.codec import build
from meshd.bundle.eid import NULL_EID, Eid
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role, SessionSettings
from meshd.cl.tcpclv4.states import State
from meshd.link.settings import TlsPolicy
from meshd.security.settings import TlsSettings
from tests.bench.support.harness import TLS_VARIABLE
from tests.bench.support.tcp_copy import PATIENCE_S, RECEIVE_BYTES, listen, say

SOURCE_NODE: Final = Eid("dtn://source/")
SINK_NODE: Final = Eid("dtn://sink/")
DESTINATION: Final = Eid("dtn://sink/inbox")

IN_FLIGHT_MAX: Final = 16384
IN_FLIGHT_MAX_BYTES: Final = 48 * 1024 * 1024
LIFETIME_MS: Final = 3_600_000
_DTN_EPOCH_S: Final = 946_684_800
_NUMBER: Final = struct.Struct("!Q")
CRC_AND_BREAK_BYTES: Final = 6
"""What follows the payload in a bundle whose payload block is the last and carries a CRC-32C."""

Chunks = list[bytes | memoryview]


def filler_of(size: int) -> bytes:
    pattern = bytes(range(256))
    return (pattern * (size // 256 + 1))[: size - _NUMBER.size]


def dtn_now_ms() -> int:
    """DTN time."""
    return int((time.time() - _DTN_EPOCH_S) * 1000)


def encode(size: int, count: int, series: int) -> list[Chunks]:
    """Bundles with payloads of `size` bytes; large ones share their filler."""
    filler = filler_of(size)
    time_ms = dtn_now_ms() + series
    bundles: list[Chunks] = []
    for number in range(count):
        payload = _NUMBER.pack(number) + filler
        data = build(SOURCE_NODE, DESTINATION, NULL_EID, 0, time_ms, number, LIFETIME_MS, payload)
        if size < 65536:
            bundles.append([data])
        else:
            cut = len(data) - CRC_AND_BREAK_BYTES - len(filler)
            bundles.append([data[:cut], filler, data[-CRC_AND_BREAK_BYTES:]])
    return bundles


class Wire:
    """A socket with a session, driven by select."""

    def __init__(self, sock: socket.socket, node: Eid, role: Role) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self.stream: ByteStream = PlainStream(sock)
        self._role = role
        self._tls = load_tls(node)
        policy = TlsPolicy.REQUIRE if self._tls else TlsPolicy.NEVER
        self.session = Session(SessionSettings(node, None, 0, tls=policy), role, 0.0)
        self._output: Chunks = []

    def step(self, take: Callable[[cl.Event], None], wait_max_s: float | None = None) -> None:
        """Write and read what goes, wait when nothing does; TimeoutError when nothing has come for too long.

        `wait_max_s`: come back after so long, whatever has come.
        """
        self.flush()
        if self.session.state is State.SECURING and not self._output:
            self._secure()
            self.flush()
        sock = self.stream.socket
        is_pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        wait_s = 0.0 if is_pending else PATIENCE_S if wait_max_s is None else wait_max_s
        readable, writable, _ = select.select([sock], [sock] if self._output else [], [], wait_s)
        if wait_s == PATIENCE_S and not readable and not writable:
            raise TimeoutError(f"the daemon did nothing for {PATIENCE_S:g} s")
        if readable or is_pending:
            self._read()
        while (event := self.session.next_event()) is not None:
            if isinstance(event, cl.SessionEnded):
                raise ConnectionError(event.text)
            take(event)

    @property
    def is_blocked(self) -> bool:
        """The socket takes no more for now."""
        return bool(self._output)

    def _secure(self) -> None:
        """Shake hands, waiting."""
        assert self._tls is not None
        stream = self._tls.wrap(self.stream.socket, self._role)
        stream.socket.settimeout(PATIENCE_S)
        stream.shake_hands()
        stream.socket.setblocking(False)
        self.session.secure(self._tls.check_peer(stream).nodes)
        self.stream = stream

    def _read(self) -> None:
        try:
            self._receive()
        except BlockingIOError:
            return

    def _receive(self) -> None:
        data = self.stream.receive(self.session.receive_max_bytes or RECEIVE_BYTES)
        if data:
            self.session.receive_data(data, 0.0)
        else:
            self.session.connection_lost("the daemon closed the connection")

    def flush(self) -> None:
        """Write what the socket takes."""
        while True:
            if not self._output:
                self._output = self.session.data_to_send(0.0)
                if not self._output:
                    return
                if sum(map(len, self._output)) < 4096 * len(self._output):
                    self._output = [b"".join(self._output)]
            try:
                size = self.stream.send(self._output)
            except BlockingIOError:
                return
            self._advance(size)

    def _advance(self, size: int) -> None:
        done = 0
        for buffer in self._output:
            if size < len(buffer):
                break
            size -= len(buffer)
            done += 1
        del self._output[:done]
        if size:
            self._output[0] = memoryview(self._output[0])[size:]


def load_tls(node: Eid) -> TlsIdentity | None:
    """Who this helper is, when the benchmark is about TLS."""
    folder = os.environ.get(TLS_VARIABLE)
    if folder is None:
        return None
    path = Path(folder)
    settings = TlsSettings(path / "node.pem", path / "node.key", path / "ca.pem", None)
    return TlsIdentity(settings, node, utc_now, utc_now)


def utc_now() -> datetime:
    return datetime.now(UTC)


def run_source(port: int, size: int, count: int, series: int) -> None:
    bundles = encode(size, count, series)
    bundle_bytes = sum(map(len, bundles[0]))
    wire = Wire(socket.create_connection(("127.0.0.1", port)), SOURCE_NODE, Role.ACTIVE)
    acknowledged = 0

    def take(event: cl.Event) -> None:
        nonlocal acknowledged
        if isinstance(event, cl.TransfersAcknowledged):
            acknowledged += len(event.transfer_ids)
        elif isinstance(event, cl.TransferRefused):
            reason = "above its transfer MRU" if event.reason is None else event.reason.name
            raise ConnectionError(f"transfer {event.transfer_id} was refused: {reason}")

    while not wire.session.can_send:
        wire.step(take)
    begin = time.monotonic()
    sent = 0
    window = min(IN_FLIGHT_MAX, max(IN_FLIGHT_MAX_BYTES // bundle_bytes, 2))
    while acknowledged < count:
        while sent < count and sent - acknowledged < window and wire.session.pending_bytes < 1 << 20:
            chunks = bundles[sent]
            wire.session.send_transfer(chunks, sum(map(len, chunks)))
            sent += 1
        wire.flush()
        may_send = sent < count and sent - acknowledged < window and not wire.is_blocked
        wire.step(take, 0.0 if may_send else None)
    say(begin=begin, end=time.monotonic())


def run_sink(batches: Sequence[str]) -> None:
    with listen() as listener:
        sock, _ = listener.accept()
    wire = Wire(sock, SINK_NODE, Role.PASSIVE)
    for batch in batches:
        size, _, count = batch.partition(":")
        take_batch(wire, int(size), int(count))


def take_batch(wire: Wire, size: int, count: int) -> None:
    filler = filler_of(size)
    tail = CRC_AND_BREAK_BYTES + size
    seen = bytearray(count)
    taken = 0

    def take(event: cl.Event) -> None:
        nonlocal taken
        if not isinstance(event, cl.TransfersReceived):
            return
        unpack, number_bytes = _NUMBER.unpack_from, _NUMBER.size
        ids = []
        for row in event.rows:
            data = row.data
            start = len(data) - tail
            if not data.startswith(filler, start + number_bytes):
                raise ValueError("a bundle arrived changed")
            seen[unpack(data, start)[0]] += 1
            ids.append(row.transfer_id)
        taken += len(ids)
        wire.session.acknowledge(ids)

    while taken < count:
        wire.step(take)
    end = time.monotonic()
    if seen != b"\1" * count:
        raise ValueError(f"{seen.count(0)} bundles were lost, {count - seen.count(0) - seen.count(1)} came twice")
    wire.flush()
    say(end=end, bundles=taken)


def main(arguments: Sequence[str]) -> int:
    """Run one program; an error is a JSON line, too."""
    gc.disable()
    name, *values = arguments
    try:
        if name == "sink":
            run_sink(values)
        else:
            run_source(*[int(value) for value in values])
    except (OSError, ValueError) as error:
        found: dict[str, Any] = {"error": f"{type(error).__name__}: {error}"}
        say(**found)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
