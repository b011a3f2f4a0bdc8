# SPDX-License-Identifier: Apache-2.0
"""dtn7-rs, dtn7-go and Hardy: how each is configured, how a bundle is given to it, and where one is found."""

import base64
import itertools
import json
import socket
from collections.abc import Mapping
from typing import Any, Final

import cbor2
from pyd3tn.bundle7 import Bundle, create_bundle7
from pyd3tn.mtcp import MTCPConnection

from tests.interop.peer_daemon import APPLICATION, CLA_PORT, NODE, WEB_PORT, PeerDaemon, PeerError, ask

RELAY_PORT: Final = 14224
"""Where dtn7-go takes bundles of others, by MTCP."""
ADMINISTRATIVE: Final = "ADMINISTRATIVE_PAYLOAD"
"""What dtn7-go calls a status report, which it gives to the application."""


class Dtn7Rs(PeerDaemon):
    """dtn7-rs: MTCP and TCPCLv4. It dials when it has something to send; sessions end when idle."""

    left_out: Mapping[tuple[str, str], str] = dict.fromkeys(
        (("tcpclv4", "512 KiB to peer"), ("tcpclv4", "1 MiB to peer")),
        "it takes 64 000 bytes at most, and does not join fragments",
    )

    def _command(self) -> list[str]:
        scheme = {"mtcp": "mtcp", "tcpclv4": "tcp"}[self._cl]
        statics = "" if self._dials is None else f'"{scheme}://{self._dials}/alpha"'
        text = f"""\
nodeid = "peer"
webport = {WEB_PORT}
workdir = "."
db = "mem"
generate_status_reports = true
[routing]
strategy = "epidemic"
[core]
janitor = "1s"
[discovery]
interval = "0s"
peer-timeout = "600s"
[convergencylayers]
cla.0.id = "{scheme}"
cla.0.port = {CLA_PORT}
cla.0.bind = "127.0.0.1"
[statics]
peers = [{statics}]
[endpoints]
local.0 = "{APPLICATION}"
"""
        return [str(self._program), "-c", self._write("dtn7.toml", text)]

    def _register(self) -> None:
        ask(f"/register?{APPLICATION}")

    def send(self, destination: str, text: bytes) -> None:
        ask(f"/send?dst={destination}&lifetime=10m", text)

    def relay(self, bundle: bytes) -> None:
        ask("/push", bundle)

    def received(self) -> list[bytes]:
        found: list[bytes] = []
        while not (reply := ask(f"/endpoint?{APPLICATION}")).startswith(b"Nothing"):
            found.append(Bundle.parse(reply).payload_block.data)
        return found


class Dtn7Go(PeerDaemon):
    """dtn7-go 0.9: MTCP and TCPCLv4. Later releases have neither TCPCLv4 nor peers that are not discovered.

    Two bundles at once may fail each other in its store ("Transaction Conflict" in its log): a case that misses a
    bundle which meshd counts as delivered was that.
    """

    left_out: Mapping[tuple[str, str], str] = {
        ("tcpclv4", "1 MiB to peer"): "it reads a length of extensions in later segments too (RFC 9174 section 5.2.2)"
    }
    _uuid = ""

    def _command(self) -> list[str]:
        peer = "" if self._dials is None else f'[[peer]]\nnode = "dtn://alpha/"\nprotocol = "{self._cl}"\n'
        peer += "" if self._dials is None else f'endpoint = "{self._dials}"\n'
        text = f"""\
[core]
store = "store"
node-id = "{NODE}"
[cron]
check-bundles = "1s"
clean-store = "10m"
clean-id = "1h"
[logging]
level = "debug"
[agents.webserver]
address = "127.0.0.1:{WEB_PORT}"
rest = true
[[listen]]
protocol = "{self._cl}"
endpoint = "127.0.0.1:{CLA_PORT}"
[[listen]]
protocol = "mtcp"
endpoint = "127.0.0.1:{RELAY_PORT}"
{peer}[routing]
algorithm = "epidemic"
"""
        return [str(self._program), self._write("dtnd.toml", text)]

    def _call(self, method: str, **values: Any) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(ask(f"/rest/{method}", json.dumps(values).encode()))
        if reply["error"]:
            raise PeerError(f"{method}: {reply['error']}")
        return reply

    def _register(self) -> None:
        self._uuid = self._call("register", endpoint_id=self.endpoint)["uuid"]

    def send(self, destination: str, text: bytes) -> None:
        arguments = {
            "destination": destination,
            "source": self.endpoint,
            "creation_timestamp_now": 1,
            "lifetime": "10m",
            "payload_block": text.decode("ascii"),
        }
        self._call("build", uuid=self._uuid, arguments=arguments)

    def relay(self, bundle: bytes) -> None:
        with MTCPConnection("127.0.0.1", RELAY_PORT) as connection:
            connection.send_bundle(bundle)

    def received(self) -> list[bytes]:
        bundles = self._call("fetch", uuid=self._uuid)["bundles"]
        flags = [bundle["primaryBlock"]["bundleControlFlags"] or () for bundle in bundles]
        messages = [bundle for bundle, names in zip(bundles, flags, strict=True) if ADMINISTRATIVE not in names]
        blocks = itertools.chain.from_iterable(bundle["canonicalBlocks"] for bundle in messages)
        return [base64.b64decode(block["data"]) for block in blocks if block["blockNumber"] == 1]


class Hardy(PeerDaemon):
    """Hardy's `hardy-bpa-server` with TCPCLv4 and file-cla: the application behind it lives in files.

    It makes no bundles itself here: what the application sends is written by pyD3TN. It dials nobody.
    """

    endpoint = f"dtn://files/{APPLICATION}"
    ways = (("tcpclv4", "meshd"),)

    def _command(self) -> list[str]:
        text = f"""\
node-ids: ["{NODE}"]
storage:
  metadata:
    type: memory
  bundle:
    type: memory
clas:
  - name: tcp
    type: tcpclv4
    address: "127.0.0.1:{CLA_PORT}"
  - name: files
    type: file-cla
    outbox: "{self._folder}/out"
    peers:
      "dtn://files/": "{self._folder}/in"
"""
        return [str(self._program), "-c", self._write("hardy.yaml", text)]

    def _register(self) -> None:
        socket.create_connection(("127.0.0.1", CLA_PORT)).close()

    def send(self, destination: str, text: bytes) -> None:
        source = f"{self.endpoint}-{next(self._numbers)}"
        self.relay(bytes(create_bundle7(source, destination, text)))

    def relay(self, bundle: bytes) -> None:
        (self._folder / "out" / f"{next(self._numbers)}").write_bytes(bundle)

    def received(self) -> list[bytes]:
        found: list[bytes] = []
        for path in (self._folder / "in").iterdir():
            try:
                found.append(Bundle.parse(path.read_bytes()).payload_block.data)
            except cbor2.CBORDecodeEOF:  # it is still being written
                continue
            path.unlink()
        return found
