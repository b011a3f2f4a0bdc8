# SPDX-License-Identifier: Apache-2.0
"""Video between two real daemons over an emulated link: what is played out in time, and the archive.

Arguments: the net (JSON of NetSettings), seconds of video, buffer in milliseconds. Prints one JSON object. The source
is a transport stream with the rates of 720p30 in random bytes, sent as raw packets: what comes out can be compared.
"""

import json
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from netns_lab.sandbox import WORK_FOLDER
from netns_lab.scenario import ScenarioContext
from tests.lab.radio_net import SENDER, RadioNet, radio_lab, settings_of
from tests.unit.stream.ts_muxer import Muxer

ENDS: Final = str(Path(__file__).resolve().parents[1] / "video_ends.py")
PACKET_BYTES: Final = 188
VIEW_PORT: Final = 5004
SLACK_S: Final = 0.15
"""Added latency that a clean network may show, on top of the buffer and of the way there: like SRT's, the buffer is
counted at the receiver, from the arrival over an undisturbed link."""
ARCHIVE_WAIT: Final = "50s"


def packet_times(data: bytes, stamps: Path) -> list[tuple[bytes, float]]:
    """Each packet and the time of its datagram."""
    rows, pos = [], 0
    for line in stamps.read_text().splitlines():
        time_s, size = line.split()
        for start in range(pos, pos + int(size), PACKET_BYTES):
            rows.append((data[start : start + PACKET_BYTES], float(time_s)))
        pos += int(size)
    return rows


def delays_s(sent: list[tuple[bytes, float]], seen: list[tuple[bytes, float]]) -> list[float]:
    """Of each packet that came, in order; by content, since any may be missing."""
    places = defaultdict(list)
    for number in reversed(range(len(sent))):
        places[sent[number][0]].append(number)
    last, delays = -1, []
    for packet, time_s in seen:
        numbers = places.get(packet, [])
        while numbers and numbers[-1] <= last:
            numbers.pop()
        if numbers:
            last = numbers.pop()
            delays.append(time_s - sent[last][1])
    return delays


def run(context: ScenarioContext) -> int:
    """The scenario."""
    values, seconds, buffer_ms = json.loads(context.arguments[0]), *map(int, context.arguments[1:3])
    with radio_lab(context, settings_of(values)) as lab:
        net = RadioNet(lab, settings_of(values))
        net.start()
        mux = Muxer()
        data = b"".join(mux.second(frame_bytes=8000, key_bytes=28_000) for _ in range(seconds))
        clip, seen_file, recorded = (WORK_FOLDER / name for name in ("clip.ts", "seen.ts", "recorded.ts"))
        clip.write_bytes(data)
        publisher, viewer = net.nodes[SENDER], net.nodes["b1"]
        latency = f"{buffer_ms}ms"
        viewer.meshctl("stream", "watch", "v", "--output", f"udp://127.0.0.1:{VIEW_PORT}", "--latency", latency)
        stamps = [WORK_FOLDER / name for name in ("sent.txt", "seen.txt")]
        view = [sys.executable, ENDS, "view", str(VIEW_PORT), str(seen_file), str(stamps[1])]
        view_process = lab.node("b1").popen(view)
        time.sleep(0.5)
        with net.client() as client:
            ask = {"name": "v", "input": "udp://127.0.0.1:0", "to": ["b1"], "latency_ms": buffer_ms}
            begun = client.call("streams.publish", ask, 30.0)
        cpu_s, wire = [publisher.cpu_s(), viewer.cpu_s()], net.left_bytes(SENDER)
        send = [sys.executable, ENDS, "send", str(clip), str(begun["port"]), str(seconds), str(stamps[0])]
        lab.node(SENDER).popen(send).wait()
        cpu_pct = [100 * (node.cpu_s() - was) / seconds for node, was in zip((publisher, viewer), cpu_s, strict=True)]
        view_process.wait()
        live_wire = net.left_bytes(SENDER) - wire
        publisher.meshctl("stream", "stop", "v")
        viewer.meshctl("stream", "record", "v", str(recorded), "--timeout", ARCHIVE_WAIT)
        sent = packet_times(data, stamps[0])
        delays = delays_s(sent, packet_times(seen_file.read_bytes(), stamps[1]))
        limit_s = net.settings.delay_s + buffer_ms / 1000 + SLACK_S
        figures = {
            "on_time_pct": 100 * sum(delay <= limit_s for delay in delays) / len(sent),
            "played_pct": 100 * len(delays) / len(sent),
            "delay_p50_s": statistics.median(delays) if delays else -1.0,
            "delay_max_s": max(delays, default=-1.0),
            "archive_identical": int(recorded.read_bytes() == data),
            "wire_per_payload": live_wire / len(data),
            "publisher_cpu_pct": cpu_pct[0],
            "viewer_cpu_pct": cpu_pct[1],
        }
        sys.stdout.write(json.dumps(figures) + "\n")
    return 0
