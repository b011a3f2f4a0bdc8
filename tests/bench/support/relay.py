# SPDX-License-Identifier: Apache-2.0
"""The node, or the two nodes, between the source and the sink of a benchmark; and a peer's program in their place.

A peer is any other node that speaks TCPCLv4. Its program is named in MESHD_BENCH_PEER (a script of your own that
configures it, as a rule) and is started as `PROGRAM PORT SINK_PORT`: it is `dtn://relay/` or whatever it likes to be,
listens on 127.0.0.1:PORT, forwards what is for `dtn://sink/` to 127.0.0.1:SINK_PORT, and ends on SIGTERM. The same
source and the same sink then measure it beside meshd.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from meshd.bundle.eid import Eid
from meshd.security.keys import KeyKind, make_private_key, private_key_to_pem
from meshd.security.pki import issue_certificate, make_authority, to_pem
from tests.bench.support.harness import STOP_TIMEOUT_S, BenchError, Daemon, free_port

PEER_VARIABLE: Final = "MESHD_BENCH_PEER"
PEER_START_TIMEOUT_S: Final = 20.0
RELAYS: Final = ("relay", "second")

CONFIG: Final = """
[node]
id = "dtn://{name}/"
state_dir = "{directory}/state"
[store]
quota = "8 GiB"
[control]
socket = "{directory}/control.sock"
[[bearer]]
name = "lan0"
kind = "terrestrial"
device = "lo"
radiating = false
listen = "127.0.0.1:{port}"
rate = "10 Gbit/s"
[[neighbour]]
node = "dtn://{previous}/"
bearer = "lan0"
[[neighbour]]
node = "dtn://{following}/"
bearer = "lan0"
address = "127.0.0.1:{following_port}"
[emcon]
boot_posture = "OPEN"
gate = false
"""
ROUTE: Final = """
[[route]]
destination = "dtn://sink/"
via = "dtn://{following}/"
"""


class Chain:
    """Running daemons, one behind the other; the source sends to `port`."""

    def __init__(self, daemons: list[Daemon], port: int) -> None:
        self.daemons = daemons
        self.port = port

    def cpu_s(self) -> float:
        """CPU time that all of them have used so far."""
        return sum(daemon.cpu_s() for daemon in self.daemons)

    def rss_mb(self) -> float:
        """Resident memory of the largest."""
        return max(daemon.rss_mb() for daemon in self.daemons)


@contextmanager
def chain(directory: Path, hops: int, sink_port: int, tls: Path | None = None) -> Iterator[Chain]:
    """So many daemons between a source and the sink. `tls`: where `make_certificates` put theirs."""
    names = ("source", *RELAYS[:hops], "sink")
    ports = [*(free_port() for _ in range(hops)), sink_port]
    with ExitStack() as stack:
        daemons = []
        for index in range(hops):
            name, following = names[index + 1], names[index + 2]
            config = CONFIG.format(
                name=name,
                directory=directory / f"node-{name}",
                port=ports[index],
                previous=names[index],
                following=following,
                following_port=ports[index + 1],
            )
            if following != "sink":
                config += ROUTE.format(following=following)
            if tls is not None:
                own = tls / name
                config += f'[tls]\ncertificate = "{own}/node.pem"\nkey = "{own}/node.key"\nca = "{own}/ca.pem"\n'
            daemons.append(stack.enter_context(Daemon(directory / f"node-{name}", config)))
        yield Chain(daemons, ports[0])


def make_certificates(directory: Path) -> None:
    """A folder for each node of a chain, its source and its sink."""
    now = datetime.now(UTC)
    authority = make_authority("bench", make_private_key(KeyKind.ED25519), 1, now, timedelta(days=1))
    for serial, name in enumerate((*RELAYS, "source", "sink"), 2):
        folder = directory / name
        folder.mkdir(parents=True)
        key = make_private_key(KeyKind.ED25519)
        certificate = issue_certificate(
            authority, Eid(f"dtn://{name}/"), key.public_key(), serial, now, timedelta(days=1)
        )
        (folder / "node.pem").write_bytes(to_pem(certificate))
        (folder / "ca.pem").write_bytes(to_pem(authority.certificate))
        (folder / "node.key").touch(mode=0o600)
        (folder / "node.key").write_bytes(private_key_to_pem(key))


@contextmanager
def peer(program: str, directory: Path, sink_port: int) -> Iterator[int]:
    """The peer's program between source and sink; the port where it listens."""
    directory.mkdir()
    port = free_port()
    with (directory / "peer.log").open("wb") as log:
        try:
            process = subprocess.Popen([program, str(port), str(sink_port)], cwd=directory, stdout=log, stderr=log)
        except OSError as error:
            raise BenchError(f"{PEER_VARIABLE}: {program} can't be started: {error.strerror}") from error
    try:
        wait_until_listening(process, port)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def peer_program() -> str | None:
    """What the environment names."""
    return os.environ.get(PEER_VARIABLE) or None


def wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    """Until a connection to it succeeds."""
    deadline = time.monotonic() + PEER_START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BenchError(f"{PEER_VARIABLE}: the program does not listen on port {port}; see how it is to be started")
