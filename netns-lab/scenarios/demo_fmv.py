# SPDX-License-Identifier: Apache-2.0
"""A video with a burned-in clock goes live over SATCOM, which is cut, and over a slow radio; both archives fill.

dpop2 watches over SATCOM, which is cut for some seconds; dpop3 over a radio that has room for half of the video and
is given its key frames and metadata. The verdict: both saw pictures, and both archives are what was sent, bit for bit.
Arguments: `--out DIR` (default build/demo-fmv in the checkout: contact sheet and videos), `--seconds N` of video.
"""

import argparse
import hashlib
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from netns_lab.contact_sheet import Cell, make_contact_sheet
from netns_lab.errors import LabError
from netns_lab.ffmpeg import decode
from netns_lab.lab import Lab
from netns_lab.mesh_node import BearerUse, MeshNode, issue_link_keys, read_json_lines, start_all
from netns_lab.sandbox import WORK_FOLDER
from netns_lab.scenario import CHECKOUT, ScenarioContext
from netns_lab.timeline import Timeline, wait_until
from netns_lab.video_clip import KLV_PID, VIDEO_PID, make_clip
from netns_lab.video_ends import Recording, Screen, Source
from netns_lab.video_report import ALL, LEVELS, Report, Spell, Viewed, count_units

STREAM: Final = "uav1"
PUBLISHER: Final = "dpop1"
VIEWERS: Final = {"dpop2": "SATCOM", "dpop3": "radio"}
VIDEO_S: Final = 25
CUT_AT_S: Final = 10.0
CUT_S: Final = 5.0
LATENCY: Final = "2s"
TAIL_S: Final = 3.0
"""After the last packet: latency, and the way there."""
INPUT_PORT: Final = 5004
OUTPUT_PORT: Final = 5006
STEP_TIMEOUT_S: Final = 45.0
FILL_TIMEOUT_S: Final = 150.0
SAY_EVERY_S: Final = 3.0
INSTANTS_S: Final = (4.0, 9.0, 13.0, 16.5, 18.5, 24.0)
"""Of the rows of the contact sheet."""


def run(context: ScenarioContext) -> int:
    """The demo; exit code 0 when the verdict holds."""
    parser = argparse.ArgumentParser(prog="lab run demo_fmv")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "build" / "demo-fmv", metavar="DIR")
    options = parser.parse_args(context.arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"{options.out}: {error.strerror}; name another folder with --out") from None
    timeline = Timeline()
    with context.lab("video") as lab:
        print(lab.report(), flush=True)
        demo = Demo(lab, timeline, options.out)
        try:
            report = demo.play()
        except LabError:
            demo.show_logs()
            raise
    print(f"\n{report.text()}\n\npictures: {demo.sheet}\nvideos:   {', '.join(map(str, demo.videos))}")
    print(f"{'passed' if report.holds() else 'FAILED'} after {timeline.elapsed_s():.0f} s")
    return 0 if report.holds() else 1


class Demo:
    """The story, one method a scene."""

    def __init__(self, lab: Lab, timeline: Timeline, out: Path) -> None:
        self.sheet: Final = out / "contact-sheet.png"
        self.videos: Final = [out / f"{name}.ts" for name in ("source", *VIEWERS)]
        self._lab: Final = lab
        self._timeline: Final = timeline
        keys = issue_link_keys(WORK_FOLDER / "pki", [PUBLISHER, *VIEWERS])
        satcom = self._bearers("satcom", "satcom", "4 Mbit/s", "dpop2")
        radio = self._bearers("los", "los", "1 Mbit/s", "dpop3")
        uses = {PUBLISHER: [satcom[0], radio[0]], "dpop2": [satcom[1]], "dpop3": [radio[1]]}
        self._nodes: Final = {
            name: MeshNode(lab.node(name), WORK_FOLDER / name, use, keys[name]) for name, use in uses.items()
        }
        self._viewed: Final = {name: Viewed(name, over) for name, over in VIEWERS.items()}
        self._screens: Final[dict[str, Screen]] = {}
        self._begun_s = self._begun_ms = self._ended_s = 0.0

    def play(self) -> Report:
        """All scenes in order."""
        with ThreadPoolExecutor(1) as worker:
            clip = worker.submit(make_clip, WORK_FOLDER / "clip.ts", VIDEO_S)
            self._start()
            source = self._begin(clip.result())
            self._watch(source)
            sent = source.sent
            fill = self._fill()
            pictures = worker.submit(self._draw, sent)
            self._wait_for_archives(fill, hashlib.sha256(sent.data).digest())
            pictures.result()
        return self._judge(sent)

    def show_logs(self) -> None:
        """What the daemons said last."""
        for name, node in self._nodes.items():
            print(f"--- end of {name}'s log\n{node.log_end()}", flush=True)

    def _bearers(self, link: str, kind: str, rate: str, viewer: str) -> tuple[BearerUse, BearerUse]:
        """The publisher's use of a link, and the viewer's."""
        settings = self._lab.topology.link(link)
        there, here = settings.members[viewer].ip(4), settings.members[PUBLISHER].ip(4)
        bearer = settings.bearer
        return (
            BearerUse(bearer, kind, rate, viewer, there, is_fountain=True),
            BearerUse(bearer, kind, rate, PUBLISHER, here, is_fountain=True),
        )

    def _start(self) -> None:
        self._timeline.say(f"a clip of {VIDEO_S} s is made, three daemons are started")
        start_all(list(self._nodes.values()))
        publisher = self._nodes[PUBLISHER]
        wait_until(lambda: publisher.links_up() == len(VIEWERS), STEP_TIMEOUT_S, f"links of {PUBLISHER} are up")
        self._timeline.say("all links are up")
        for name in VIEWERS:
            self._screens[name] = Screen(self._lab.node(name), OUTPUT_PORT)
            self._nodes[name].meshctl("stream", "watch", STREAM, "--output", f"udp://127.0.0.1:{OUTPUT_PORT}")

    def _begin(self, clip: bytes) -> Source:
        publisher = self._nodes[PUBLISHER]
        input_address = f"udp://127.0.0.1:{INPUT_PORT}"
        publisher.meshctl("stream", "publish", STREAM, "--input", input_address, "--to", *VIEWERS, "--latency", LATENCY)
        self._follow(PUBLISHER, "events", "--follow", "--kind", "stream")
        for name in VIEWERS:
            self._follow(name, "stream", "stats", "--interval", "1s", "--count", "600")
        source = Source(self._lab.node(PUBLISHER), INPUT_PORT, clip, VIDEO_S)
        self._begun_s, self._begun_ms = time.monotonic(), time.time() * 1000
        source.start()
        rate_mbps = len(clip) * 8 / VIDEO_S / 1e6
        self._timeline.say(f"{PUBLISHER}: publishes {STREAM}, {rate_mbps:.2f} Mbit/s, to {' and '.join(VIEWERS)}")
        return source

    def _follow(self, node: str, *arguments: str) -> None:
        """A meshctl that reports beside the story."""
        with (WORK_FOLDER / f"{node}.lines").open("wb") as out:
            self._nodes[node].start_meshctl(*arguments, stdout=out)

    def _lines(self, node: str) -> list[dict[str, Any]]:
        return read_json_lines((WORK_FOLDER / f"{node}.lines").read_text())

    def _watch(self, source: Source) -> None:
        """Until the video has ended and was shown, with the cut in between."""
        steps = [(CUT_AT_S, self._cut), (CUT_AT_S + CUT_S, self._restore)]
        said_s, shown = self._begun_s, 0
        while source.is_running():
            time.sleep(0.1)
            now = time.monotonic()
            if steps and now >= self._begun_s + steps[0][0]:
                steps.pop(0)[1]()
            shown += self._say_levels(shown)
            if now >= said_s + SAY_EVERY_S:
                said_s = now
                self._say_stats()
        self._ended_s = time.monotonic()
        self._nodes[PUBLISHER].meshctl("stream", "stop", STREAM)
        self._timeline.say(f"{PUBLISHER}: the video has ended; what is missing is filled")

    def _cut(self) -> None:
        self._lab.link("satcom").cut()
        now = time.monotonic()
        self._viewed["dpop2"].outage = Spell(now, now + CUT_S)
        self._timeline.say("SATCOM is cut")

    def _restore(self) -> None:
        self._lab.link("satcom").restore()
        outage, now = self._viewed["dpop2"].outage, time.monotonic()
        assert outage is not None, "it was cut before"
        self._viewed["dpop2"].outage = Spell(outage.begin_s, now)
        self._timeline.say(f"SATCOM is back after {now - outage.begin_s:.1f} s")

    def _say_levels(self, shown: int) -> int:
        """Tell changes of what the links are given; how many there were."""
        changes = [event for event in self._lines(PUBLISHER) if event["kind"] == "stream.thinned"][shown:]
        for event in changes:
            name = next(name for name in VIEWERS if name in event["fields"]["link"])
            level = LEVELS[event["fields"]["level"]]
            self._viewed[name].levels.append(((event["time_ms"] - self._begun_ms) / 1000, level))
            self._timeline.say(f"{PUBLISHER}: over {VIEWERS[name]} it sends {level} from now on")
        return len(changes)

    def _say_stats(self) -> None:
        words = []
        for name, over in VIEWERS.items():
            lines = self._lines(name)
            playout = (lines[-1]["playout"] if lines else None) or {}
            rate_mbps = lines[-1]["rate_bps"] / 1e6 if lines else 0.0
            latency = playout.get("latency_ms")
            shown = "nothing yet" if latency is None else f"{latency / 1000:.2f} s old"
            words.append(f"{name} over {over} gets {rate_mbps:.2f} Mbit/s, shows {shown}")
        self._timeline.say("; ".join(words))

    def _fill(self) -> dict[str, subprocess.Popen[bytes]]:
        """Record the archive of each."""
        timeout = f"{FILL_TIMEOUT_S:.0f}s"
        running = {}
        for name in VIEWERS:
            path = WORK_FOLDER / f"{name}.archive"
            with (WORK_FOLDER / f"{name}.record").open("wb") as out:
                command = ("stream", "record", STREAM, str(path), "--timeout", timeout)
                running[name] = self._nodes[name].start_meshctl(*command, stdout=out)
        return running

    def _wait_for_archives(self, fill: dict[str, subprocess.Popen[bytes]], digest: bytes) -> None:
        until_s = time.monotonic() + FILL_TIMEOUT_S + STEP_TIMEOUT_S
        while fill and time.monotonic() < until_s:
            for name, process in list(fill.items()):
                if process.poll() is not None:
                    del fill[name]
                    self._take_archive(self._viewed[name], process.returncode, digest)
            time.sleep(0.1)

    def _take_archive(self, viewed: Viewed, code: int, digest: bytes) -> None:
        if code:
            self._timeline.say(f"{viewed.name}: its archive is not complete (meshctl ended with {code})")
            return
        viewed.filled_s = time.monotonic() - self._ended_s
        archive = (WORK_FOLDER / f"{viewed.name}.archive").read_bytes()
        viewed.is_identical = hashlib.sha256(archive).digest() == digest
        words = "what was sent, bit for bit" if viewed.is_identical else "NOT what was sent"
        self._timeline.say(f"{viewed.name}: its archive is complete, and {words}")

    def _draw(self, sent: Recording) -> None:
        """The contact sheet, the videos, and what a decoder says of them."""
        time.sleep(TAIL_S)
        make_contact_sheet([self._row(sent, after_s) for after_s in INSTANTS_S], WORK_FOLDER, self.sheet)
        recordings = [sent, *(self._screens[name].seen for name in VIEWERS)]
        for path, recording in zip(self.videos, recordings, strict=True):
            path.write_bytes(recording.data)
        pictures = set(decode(bytes(sent.data)).pictures)
        for name, viewed in self._viewed.items():
            decoded = decode(bytes(self._screens[name].seen.data))
            viewed.pictures, viewed.complaints = len(decoded.pictures), decoded.complaints
            viewed.damaged = sum(picture not in pictures for picture in decoded.pictures)

    def _row(self, sent: Recording, after_s: float) -> list[Cell]:
        """Everybody's picture so many seconds after the video began."""
        at_s = self._begun_s + after_s
        row = [Cell(sent, at_s, "source", f"at {after_s:.1f} s")]
        for name, over in VIEWERS.items():
            viewed = self._viewed[name]
            is_cut = viewed.outage is not None and viewed.outage.covers(at_s)
            level = viewed.level_at(after_s)
            link = f"{over} is cut" if is_cut else "all is sent" if level == ALL else f"only {level} sent"
            row.append(Cell(self._screens[name].seen, at_s, f"{name} over {over}", f"at {after_s:.1f} s, {link}"))
        return row

    def _judge(self, sent: Recording) -> Report:
        packets = sent.packets()
        for name, viewed in self._viewed.items():
            self._screens[name].close()
            viewed.compare(sent, self._screens[name].seen)
            playouts = [line["playout"] for line in self._lines(name) if line["playout"]]
            latencies_ms = [each["latency_ms"] for each in playouts if each["latency_of"] == "klv"]
            viewed.latencies_ms = [each for each in latencies_ms if each is not None]
            viewed.on_time_pct = playouts[-1]["on_time_pct"] if playouts else None
        rate_bps = len(sent.data) * 8 / VIDEO_S
        pictures, klv_sets = count_units(packets, VIDEO_PID), count_units(packets, KLV_PID)
        return Report(rate_bps, pictures, klv_sets, list(self._viewed.values()))
