# SPDX-License-Identifier: Apache-2.0
"""meshd and one daemon of others, connected; and what bundles of any kind do between the two."""

import random
import socket
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyd3tn.bundle7 import CRCType, create_bundle7
from pyd3tn.mtcp import MTCPSocket

from meshd.client.client import Client
from tests.interop.daemon_process import daemon
from tests.interop.peer_daemon import CLA_PORT, LOOK_EVERY_S, NODE, PeerDaemon

MESHD: Final = "dtn://alpha/"
INBOX: Final = f"{MESHD}inbox"
ORIGIN: Final = "dtn://origin/"
"""A node behind the peer, or behind meshd, that writes bundles with the CRC that a case is about."""
ORIGIN_ADDRESS: Final = "127.0.0.2"
PATIENCE_S: Final = 30.0
SMALL_BYTES: Final = 100
LARGE_BYTES: Final = 1024 * 1024
MANY: Final = 40
MANY_MAX_BYTES: Final = 60_000
MANY_WAITING: Final = 5

MakePeer = Callable[[Path, str, str | None], PeerDaemon]


class Scene:
    """Both daemons running; every wait ends after PATIENCE_S with an AssertionError."""

    def __init__(self, client: Client, peer: PeerDaemon, mtcp_port: int) -> None:
        self._client = client
        self._peer = peer
        self._mtcp_port = mtcp_port
        self._receiver = client.recv_open()
        self._rng = random.Random(9174)

    def _text(self, size_bytes: int) -> bytes:
        return "".join(self._rng.choices(string.ascii_letters, k=size_bytes)).encode()

    def _some(self, count: int) -> list[bytes]:
        return [self._text(self._rng.randint(1, MANY_MAX_BYTES)) for _ in range(count)]

    def to_peer(self, payloads: Sequence[bytes]) -> None:
        """meshd makes the bundles."""
        self._submit(payloads)
        self._peer_gets(payloads)

    def _submit(self, payloads: Sequence[bytes]) -> list[str]:
        return [self._client.send_bytes(self._peer.endpoint, payload).message for payload in payloads]

    def _peer_gets(self, payloads: Sequence[bytes]) -> None:
        found: list[bytes] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < len(payloads) and time.monotonic() < deadline:
            found += self._peer.received()
            time.sleep(LOOK_EVERY_S)
        self._compare(found, payloads)

    def from_peer(self, payloads: Sequence[bytes]) -> None:
        """The peer makes the bundles."""
        for payload in payloads:
            self._peer.send(INBOX, payload)
        self._meshd_gets(payloads)

    def _meshd_gets(self, payloads: Sequence[bytes]) -> None:
        found: list[bytes] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < len(payloads):
            message = self._client.recv_next(self._receiver, max(0.0, deadline - time.monotonic()))
            data = self._client.recv_read(self._receiver, message.message, 0, message.size_bytes)
            found.append(bytes(data))
            self._client.recv_confirm(self._receiver, message.message)
        self._compare(found, payloads)

    @staticmethod
    def _compare(found: Sequence[bytes], expected: Sequence[bytes]) -> None:
        missing = (Counter(expected) - Counter(found)).total()
        surplus = (Counter(found) - Counter(expected)).total()
        assert missing + surplus == 0, f"{len(expected)} sent, {missing} of them missing, {surplus} others or twice"

    def _foreign(self, destination: str, payload: bytes, crc: CRCType) -> bytes:
        number = self._rng.randrange(1 << 30)
        return bytes(
            create_bundle7(
                f"{ORIGIN}app",
                destination,
                payload,
                sequence_number=number,
                hop_limit=20,
                crc_type_primary=crc,
                crc_type_canonical=crc,
            )
        )

    def crc_to_peer(self, crc: CRCType) -> None:
        """meshd forwards what another node wrote with this CRC; its own previous node block is added."""
        payload = self._rng.randbytes(SMALL_BYTES)
        address = ("127.0.0.1", self._mtcp_port)
        with socket.create_connection(address, PATIENCE_S, (ORIGIN_ADDRESS, 0)) as sock:
            MTCPSocket(sock).send_bundle(self._foreign(self._peer.endpoint, payload, crc))
            self._peer_gets([payload])

    def crc_from_peer(self, crc: CRCType) -> None:
        """The peer forwards what another node wrote with this CRC."""
        payload = self._rng.randbytes(SMALL_BYTES)
        self._peer.relay(self._foreign(INBOX, payload, crc))
        self._meshd_gets([payload])

    def restart_peer(self) -> None:
        """The peer dies, bundles wait for it, and it comes back. It speaks first: dtn7-rs does not dial before."""
        self._peer.kill()
        payloads = self._some(MANY_WAITING)
        self._submit(payloads)
        self._peer.start()
        self.from_peer([self._text(SMALL_BYTES)])
        self._peer_gets(payloads)
        self.from_peer(self._some(MANY_WAITING))

    def cases(self) -> dict[str, Callable[[], None]]:
        """In the order in which they are run; a case that failed may disturb those behind it."""
        return {
            "small from peer": lambda: self.from_peer([self._text(1), self._text(SMALL_BYTES)]),
            "small to peer": lambda: self.to_peer([self._text(1), self._text(SMALL_BYTES)]),
            "512 KiB from peer": lambda: self.from_peer([self._text(LARGE_BYTES // 2)]),
            "512 KiB to peer": lambda: self.to_peer([self._text(LARGE_BYTES // 2)]),
            f"{MANY} to peer": lambda: self.to_peer(self._some(MANY)),
            f"{MANY} from peer": lambda: self.from_peer(self._some(MANY)),
            "CRC-16 to peer": lambda: self.crc_to_peer(CRCType.CRC16),
            "CRC-16 from peer": lambda: self.crc_from_peer(CRCType.CRC16),
            "CRC-32C to peer": lambda: self.crc_to_peer(CRCType.CRC32),
            "CRC-32C from peer": lambda: self.crc_from_peer(CRCType.CRC32),
            "1 MiB from peer": lambda: self.from_peer([self._text(LARGE_BYTES)]),
            "1 MiB to peer": lambda: self.to_peer([self._text(LARGE_BYTES)]),
            "peer restarted": self.restart_peer,
        }


@contextmanager
def scene(folder: Path, cl: str, dialer: str, make_peer: MakePeer) -> Iterator[Scene]:
    """Both daemons connected by `cl`; `dialer` is meshd, peer or both (MTCP, which is one-way)."""
    folder.mkdir(parents=True)
    is_mtcp = cl == "mtcp"
    address = "" if dialer == "peer" else f'address = "127.0.0.1:{CLA_PORT}"\n'
    neighbours = f'[[neighbour]]\nnode = "{NODE}"\nbearer = "lo"\ncl = "{cl}"\n{address}'
    neighbours += f'[[neighbour]]\nnode = "{ORIGIN}"\nbearer = "lo"\ncl = "mtcp"\naddress = "{ORIGIN_ADDRESS}:9"\n'
    neighbours += '[[route]]\ndestination = "dtn://files/"\nvia = "dtn://peer/"\n'
    listen = 'listen = "127.0.0.1:0"\nmtcp_listen = "127.0.0.1:0"\n'
    with daemon(folder / "meshd", MESHD, listen, neighbours) as meshd, meshd.client() as client:
        mtcp_address = meshd.address("mtcp_listen")
        dials = None if dialer == "meshd" else mtcp_address if is_mtcp else meshd.address()
        peer = make_peer(folder / "peer", cl, dials)
        try:
            peer.start()
            yield Scene(client, peer, int(mtcp_address.rpartition(":")[2]))
        finally:
            peer.kill()
            (folder / "meshd" / "journal").write_text(meshd.journal.text())
