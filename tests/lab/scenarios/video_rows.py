# SPDX-License-Identifier: Apache-2.0
"""Video from one real daemon to others over an emulated link: what is shown in time, and every archive.

Arguments: a clip of ffmpeg's (netns_lab/video_clip.py) and a plan (JSON of video_run.Video). Prints one JSON object.
The clip is sent as raw packets with KLV between: what comes out can be compared. While it runs, links and nodes change
as planned. SRT, if wanted, goes first over the same link, from the same source to the same kind of viewer.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from netns_lab.sandbox import WORK_FOLDER
from netns_lab.scenario import ScenarioContext
from netns_lab.video_ends import Recording, Screen, Source
from tests.lab.radio_net import LINK, SENDER, RadioNet, radio_lab, settings_of
from tests.lab.video_measures import back_after_s, content_figures, show_figures, thinned_figures

NAME: Final = "v"
VIEW_PORT: Final = 5004
SRT_PORT: Final = 5200
SRT_CONNECT_S: Final = 3.0
PACE_S: Final = 0.05
"""By so much a program that plays to a socket may be late by itself; SRT's own tool is, always."""
TAIL_S: Final = 2.0
THINNED_AFTER_S: Final = 6.0
ARCHIVE_WAIT: Final = "120s"


class VideoRow:
    """One row as it runs."""

    def __init__(self, net: RadioNet, clip: bytes, plan: Mapping[str, Any]) -> None:
        self._net: Final = net
        self._clip: Final = clip
        self._plan: Final = plan
        self._viewers: Final = net.settings.names()[1:]
        self._done: Final[dict[str, float]] = {}
        """When each kind of change was made last."""

    def limit_s(self) -> float:
        """From the source to the viewer."""
        return self.latency_ms() / 1000 + PACE_S

    def latency_ms(self) -> int:
        """What meshd is told: it counts from the source on, where SRT counts from the arrival over a quiet link."""
        return round(1000 * self._net.settings.delay_s) + int(self._plan["buffer_ms"])

    def run_srt(self) -> dict[str, float]:
        """The same clip by SRT's own programs."""
        lab, latency_ms = self._net.lab, self._plan["buffer_ms"]
        address = lab.topology.link(LINK).members["b1"].ip(4)
        screen = Screen(lab.node("b1"), VIEW_PORT)
        there = f"srt://:{SRT_PORT}?mode=listener&latency={latency_ms}"
        here = f"srt://{address}:{SRT_PORT}?mode=caller&latency={latency_ms}"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        ends = [lab.node("b1").popen(["srt-live-transmit", "-q", there, f"udp://127.0.0.1:{VIEW_PORT}"], **quiet)]
        ends.append(lab.node(SENDER).popen(["srt-live-transmit", "-q", f"udp://:{VIEW_PORT}", here], **quiet))
        time.sleep(SRT_CONNECT_S)
        wire = self._net.left_bytes(SENDER)
        source = self._play(VIEW_PORT, [])
        wire = self._net.left_bytes(SENDER) - wire
        for process in ends:
            process.kill()
            process.wait()
        screen.close()
        figures = show_figures(source.sent, screen.seen, self.limit_s())
        figures["wire_per_payload"] = wire / len(source.sent.data)
        return {f"srt_{name}": value for name, value in figures.items()}

    def run(self) -> dict[str, float]:
        """By the daemons: live, then the archives."""
        screens = {}
        for name in self._viewers:
            screens[name] = Screen(self._net.lab.node(name), VIEW_PORT)
            output = f"udp://127.0.0.1:{VIEW_PORT}"
            self._net.nodes[name].meshctl("stream", "watch", NAME, "--output", output)
        port = self._publish()
        cpu_s, wire = self._cpu_s(), self._net.left_bytes(SENDER)
        source = self._play(port, self._plan["changes"])
        wire = self._net.left_bytes(SENDER) - wire
        cpu_pct = [
            100 * (after - before) / self._plan["seconds"] for before, after in zip(cpu_s, self._cpu_s(), strict=True)
        ]
        self._net.nodes[SENDER].meshctl("stream", "stop", NAME)
        figures = self._archives(bytes(source.sent.data))
        for screen in screens.values():
            screen.close()
        payload = wire / len(source.sent.data)
        figures |= {"wire_per_payload": payload, "overhead_points": 100 * (payload - 1 / (1 - self._loss()))}
        figures |= {"publisher_cpu_pct": cpu_pct[0], "viewer_cpu_pct": max(cpu_pct[1:])}
        return figures | self._shown(source.sent, [screen.seen for screen in screens.values()])

    def _shown(self, sent: Recording, views: Sequence[Recording]) -> dict[str, float]:
        """Of the viewer who saw least."""
        found = [show_figures(sent, seen, self.limit_s()) for seen in views]
        worst = min(range(len(found)), key=lambda number: found[number]["on_time_pct"])
        figures, seen = found[worst], views[worst]
        figures["added_latency_ms"] = 1000 * (figures["delay_p50_s"] - self._net.settings.delay_s)
        figures |= content_figures(sent, seen)
        if "restore" in self._done:
            figures["back_s"] = back_after_s(sent, seen, self._done["restore"])
        if "fall" in self._done:
            end_s = self._done.get("rise", sent.packets()[-1][1])
            figures |= thinned_figures(seen, self._done["fall"] + THINNED_AFTER_S, end_s)
        return figures

    def _loss(self) -> float:
        return self._net.settings.loss

    def _cpu_s(self) -> list[float]:
        return [node.cpu_s() for node in self._net.nodes.values()]

    def _publish(self) -> int:
        """The port of its input."""
        to = "all" if self._net.settings.is_multicast else "b1"
        ask = {"name": NAME, "input": "udp://127.0.0.1:0", "to": [to], "latency_ms": self.latency_ms()}
        with self._net.client() as client:
            return int(client.call("streams.publish", ask, 30.0)["port"])

    def _play(self, port: int, changes: Sequence[Sequence[Any]]) -> Source:
        """All of the clip, while the rest changes, until the last of it was shown."""
        source = Source(self._net.lab.node(SENDER), port, self._clip, self._plan["seconds"])
        begun_s = time.monotonic()
        source.start()
        for at_s, what, *values in changes:
            time.sleep(max(0.0, begun_s + at_s - time.monotonic()))  # the plan of the row
            self._change(what, values)
        while source.is_running():
            time.sleep(0.05)
        time.sleep(self.limit_s() + TAIL_S)
        return source

    def _change(self, what: str, values: Sequence[Any]) -> None:
        link, node = self._net.lab.link(LINK), self._net.nodes.get(values[0] if values else "")
        if what == "cut":
            link.cut()
        elif what == "restore":
            link.restore()
        elif what in ("fall", "rise"):
            link.set_profile(replace(self._net.settings, rate_bps=values[0]).profile())
        elif what == "kill" and node:
            node.kill()
        elif what == "start" and node:
            node.start()
        elif what == "emcon" and node:
            node.meshctl("emcon", "set", values[1])
        else:
            raise ValueError(f"{what} {values}: no such change")
        self._done[what] = time.monotonic()

    def _archives(self, data: bytes) -> dict[str, float]:
        """Of all viewers."""
        begun_s, running = time.monotonic(), []
        for name in self._viewers:
            path, words = WORK_FOLDER / f"{name}.archive", WORK_FOLDER / f"{name}.record"
            with words.open("wb") as out:
                command = ("stream", "record", NAME, str(path), "--timeout", ARCHIVE_WAIT)
                running.append((path, self._net.nodes[name].start_meshctl(*command, stdout=out)))
        is_identical = [process.wait() == 0 and path.read_bytes() == data for path, process in running]
        return {"archive_identical": int(all(is_identical)), "archive_s": time.monotonic() - begun_s}


def run(context: ScenarioContext) -> int:
    """The scenario."""
    clip, plan = Path(context.arguments[0]).read_bytes(), json.loads(context.arguments[1])
    with radio_lab(context, settings_of(dict(plan["net"]))) as lab:
        net = RadioNet(lab, settings_of(dict(plan["net"])))
        net.start()
        row = VideoRow(net, clip, plan)
        figures = row.run_srt() if plan["with_srt"] else {}
        figures |= row.run()
        sys.stdout.write(json.dumps(figures) + "\n")
    return 0
