# SPDX-License-Identifier: Apache-2.0
"""Video between two real daemons: live out of a UDP port, and an archive that is bit-identical after losses.

What is lost here is what was sent while the receiver did not run; it is killed while the stream goes on.
"""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.unit.daemon.daemon_process import DaemonProcess, make_pair
from tests.unit.stream.ts_muxer import Muxer

PATIENCE_S = 30.0
DATAGRAM_BYTES = 7 * 188


class Video:
    """A source that sends as real ones do, and a viewer."""

    def __init__(self) -> None:
        self._muxer = Muxer()
        self.sent = bytearray()
        self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.viewer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.viewer.bind(("127.0.0.1", 0))
        self.viewer.settimeout(PATIENCE_S)
        self.seen = bytearray()

    @property
    def address(self) -> str:
        return f"udp://127.0.0.1:{self.viewer.getsockname()[1]}"

    def send(self, port: int, pause: threading.Event) -> None:
        """Half a second of video, in the time that it takes."""
        data = self._muxer.second(frames=15, frame_bytes=1500, key_bytes=6000)
        step = DATAGRAM_BYTES
        for pos in range(0, len(data), step):
            self._out.sendto(data[pos : pos + step], ("127.0.0.1", port))
            self.sent += data[pos : pos + step]
            pause.wait(0.5 * step / len(data))

    def view(self) -> None:
        """Until the next bytes."""
        self.seen += self.viewer.recv(65536)

    def drain(self) -> None:
        """Forget what has come."""
        self.viewer.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.viewer.recv(65536)
        self.viewer.settimeout(PATIENCE_S)
        self.seen.clear()

    def close(self) -> None:
        self._out.close()
        self.viewer.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[DaemonProcess, DaemonProcess]]:
    alpha, bravo = make_pair(tmp_path)
    try:
        alpha.start()
        bravo.start()
        alpha.wait_ready()
        bravo.wait_ready()
        yield alpha, bravo
    finally:
        alpha.end()
        bravo.end()


@pytest.fixture
def video() -> Iterator[Video]:
    source = Video()
    yield source
    source.close()


def call(daemon: DaemonProcess, method: str, **params: Any) -> Any:
    with daemon.client() as client:
        return client.call(method, params, PATIENCE_S)


def meshctl(daemon: DaemonProcess, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "meshd.ctl.main", "--socket", daemon.socket_path, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)


def test_live_and_complete(pair: tuple[DaemonProcess, DaemonProcess], video: Video, tmp_path: Path) -> None:
    alpha, bravo = pair
    never = threading.Event()
    call(bravo, "streams.watch", name="uav1", output=video.address, latency_ms=300)
    begun = call(alpha, "streams.publish", name="uav1", input="udp://127.0.0.1:0", to=["bravo"], label="UNCLASSIFIED")
    for _ in range(2):
        video.send(begun["port"], never)
    while len(video.seen) < len(video.sent) // 4:
        video.view()
    assert video.sent.startswith(video.seen)
    bravo.kill()
    for _ in range(2):
        video.send(begun["port"], never)
    bravo.start()
    bravo.wait_ready()
    video.drain()
    for _ in range(2):
        video.send(begun["port"], never)
    # The output goes on after the restart, without another order.
    video.view()
    assert video.seen[0::188] == b"G" * (len(video.seen) // 188)
    call(alpha, "streams.stop", name="uav1")
    recording = tmp_path / "uav1.ts"
    meshctl(bravo, "stream", "record", "uav1", str(recording), "--timeout", f"{PATIENCE_S:g}s")
    assert recording.read_bytes() == bytes(video.sent)
    row = wait_for(bravo, begun["stream"], lambda row: row["is_complete"])
    assert row["filled_pieces"] > 0
    assert row["label"] == "UNCLASSIFIED"
    assert "uav1" in meshctl(bravo, "stream", "stats").stdout


def test_a_publisher_that_was_killed_ends_its_stream_and_begins_the_next(
    pair: tuple[DaemonProcess, DaemonProcess], video: Video, tmp_path: Path
) -> None:
    alpha, bravo = pair
    never = threading.Event()
    port = _free_udp_port()
    call(alpha, "streams.publish", name="uav1", input=f"udp://127.0.0.1:{port}", to=["bravo"])
    first = call(alpha, "streams.list", name="uav1")["streams"][0]["stream"]
    for _ in range(2):
        video.send(port, never)
    wait_for(bravo, first, lambda row: row["archived_pieces"] > 10)
    alpha.kill()
    alpha.start()
    alpha.wait_ready()
    (next_one,) = [
        row for row in call(alpha, "streams.list")["streams"] if row["name"] == "uav1" and row["state"] == "live"
    ]
    assert next_one["stream"] != first
    meshctl(bravo, "stream", "record", first, str(tmp_path / "first.ts"), "--timeout", f"{PATIENCE_S:g}s")
    recorded = (tmp_path / "first.ts").read_bytes()
    assert recorded
    assert video.sent.startswith(recorded)
    call(alpha, "streams.stop", name="uav1")
    alpha.stop()
    alpha.start()
    alpha.wait_ready()
    assert {row["state"] for row in call(alpha, "streams.list")["streams"]} == {"ended"}


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(daemon: DaemonProcess, stream: str, is_it: Any) -> Any:
    """Until the figures of a stream are so."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.1)):
        rows = [row for row in call(daemon, "streams.list")["streams"] if row["stream"] == stream]
        if rows and is_it(rows[0]):
            return rows[0]
        pause.wait(0.1)
    raise AssertionError(f"{daemon.name}: {rows}")


def test_a_file_goes_to_a_file(pair: tuple[DaemonProcess, DaemonProcess], tmp_path: Path) -> None:
    alpha, bravo = pair
    mux = Muxer()
    clip, seen = tmp_path / "clip.ts", tmp_path / "seen.ts"
    clip.write_bytes(mux.second(frames=30) + mux.second(frames=15))
    command = [sys.executable, "-m", "meshd.ctl.main", "--socket", bravo.socket_path]
    with subprocess.Popen(
        [*command, "stream", "watch", "clip", "--output", str(seen)], stderr=subprocess.PIPE, text=True
    ) as viewer:
        assert viewer.stderr is not None
        assert "waiting for it" in viewer.stderr.readline()
        done = meshctl(alpha, "stream", "publish", "clip", "--input", str(clip), "--to", "bravo", "--latency", "500ms")
        assert "clip is published to dtn://bravo/stream" in done.stdout
        viewer.wait(PATIENCE_S)
    assert viewer.returncode == 0
    assert seen.read_bytes() == clip.read_bytes()
    # Pieces are no messages that anybody asks after.
    assert set(call(alpha, "status")["messages"].values()) == {0}
