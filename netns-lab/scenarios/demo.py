# SPDX-License-Identifier: Apache-2.0
"""Three daemons carry a file over a link that is cut, through a crash, and one falls silent on order.

dpop1 sends to home over SATCOM; dpop2 hangs between them on LOS and on a line. The verdict: the file arrived whole,
no message was lost, and no frame left dpop2 while it was silent, by a sniffer outside its namespace. Arguments:
`--file PATH` (default: an archive of the checkout), `--keep DIR` (logs and captures of the run).
"""

import argparse
import contextlib
import hashlib
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from netns_lab.errors import LabError
from netns_lab.lab import Count, Lab
from netns_lab.mesh_node import TCPCL_PORT, BearerUse, MeshNode, read_json_lines
from netns_lab.provocation import Provoker
from netns_lab.sandbox import WORK_FOLDER
from netns_lab.scenario import CHECKOUT, ScenarioContext
from netns_lab.timeline import Timeline, wait_until

ARCHIVE_SIZE_BYTES: Final = 1_000_000
ARCHIVED: Final = ("meshd", "netns-lab", "tests", "config", "man")
CUT_S: Final = 10.0
WINDOW_S: Final = 10.0
SILENT_FOR_S: Final = 14
"""Longer than the window: an order takes effect before it returns, and the window must end before the order does."""
CUT_AT_SHARE: Final = 0.15
KILL_AT_SHARE: Final = 0.40
STEP_TIMEOUT_S: Final = 45.0
END_BASE_S: Final = 140.0
END_RATE_BPS: Final = 100_000
"""The whole run may take END_BASE_S and the file's time at this rate (TCP makes some 250 kbit/s of the satellite
link).
"""
PROVOKE_EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the end of the demo compares."""

    digest_sent: str
    digest_received: str
    messages_sent: int
    messages_lost: int
    messages_twice: int
    before: Count
    silent: Count

    def holds(self) -> bool:
        """True when everything promised was kept, and the sniffer would have noticed if not."""
        return (
            self.digest_sent == self.digest_received
            and self.messages_lost == self.messages_twice == 0
            and self.silent.frames == self.silent.missed == 0
            and self.before.frames > 0
        )


def run(context: ScenarioContext) -> int:
    """The demo; exit code 0 when the verdict holds."""
    parser = argparse.ArgumentParser(prog="lab run demo")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy logs and captures there at the end")
    options = parser.parse_args(context.arguments)
    file = options.file or make_archive(WORK_FOLDER / "checkout.tar")
    if not file.is_file():
        raise LabError(f"{file} is no file; give one with --file")
    timeline = Timeline()
    with context.lab("triangle") as lab:
        print(lab.report(), flush=True)
        demo = Demo(lab, timeline, file)
        try:
            verdict = demo.play()
            print(lab.report(), flush=True)
        except LabError:
            demo.show_logs()
            raise
        finally:
            if options.keep:
                demo.keep(options.keep)
    return show(verdict, timeline)


def make_archive(path: Path) -> Path:
    """A tar of as many of the checkout's files as fit into a megabyte."""
    files = (file for name in ARCHIVED for file in sorted((CHECKOUT / name).rglob("*")))
    with tarfile.open(path, "w") as archive:
        for file in files:
            room_bytes = ARCHIVE_SIZE_BYTES - archive.offset - 2 * tarfile.BLOCKSIZE
            if file.is_file() and "__pycache__" not in file.parts and file.stat().st_size < room_bytes:
                archive.add(file, file.relative_to(CHECKOUT))
    return path


class Demo:
    """The story, one method a scene."""

    def __init__(self, lab: Lab, timeline: Timeline, file: Path) -> None:
        self._lab: Final = lab
        self._timeline: Final = timeline
        self._file: Final = file
        self._size_bytes: Final = file.stat().st_size
        self._inbox: Final = WORK_FOLDER / "inbox"
        self._sent: Final[list[str]] = []
        self._nodes: Final = {
            "dpop1": self._node(
                "dpop1",
                BearerUse("satcom0", "satcom", "2 Mbit/s", "home", self._address("satcom", "home")),
                BearerUse("los0", "los", "500 kbit/s", "dpop2", self._address("los", "dpop2")),
            ),
            "dpop2": self._node(
                "dpop2",
                BearerUse("los0", "los", "500 kbit/s", "dpop1", None),
                BearerUse("lan0", "terrestrial", "50 Mbit/s", "home", self._address("lan", "home")),
            ),
            "home": self._node(
                "home",
                BearerUse("satcom0", "satcom", "2 Mbit/s", "dpop1", None),
                BearerUse("lan0", "terrestrial", "50 Mbit/s", "dpop2", None),
            ),
        }

    def play(self) -> Verdict:
        """All scenes in order."""
        end_s = END_BASE_S + self._size_bytes * 8 / END_RATE_BPS
        self._start()
        sending = self._send_file()
        self._cut_and_restore(sending)
        self._kill_and_restart(sending)
        before, silent = self._fall_silent()
        self._wait_for_all(sending, end_s)
        return self._judge(before, silent)

    def show_logs(self) -> None:
        """What the daemons said last."""
        for name, node in self._nodes.items():
            print(f"--- end of {name}'s log\n{node.log_end()}", flush=True)

    def keep(self, folder: Path) -> None:
        """Copy logs, and captures of every bearer, to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self._nodes:
            shutil.copyfile(WORK_FOLDER / name / "log", folder / f"{name}.log")
        for link in self._lab.topology.links.values():
            for node in link.members:
                self._lab.sniffer(link.bearer, node).write_pcap(folder / f"{node}-{link.bearer}.pcap")
        self._timeline.say(f"logs and captures are in {folder}")

    def _node(self, name: str, *bearers: BearerUse) -> MeshNode:
        return MeshNode(self._lab.node(name), WORK_FOLDER / name, bearers)

    def _address(self, link: str, node: str) -> str:
        return self._lab.topology.link(link).members[node].ip(4)

    def _start(self) -> None:
        for node in self._nodes.values():
            node.start()
            self._timeline.say(f"{node.name}: meshd runs")
        wait_until(lambda: self._nodes["dpop1"].links_up() == 2, STEP_TIMEOUT_S, "both links of dpop1 are up")
        wait_until(lambda: self._nodes["dpop2"].links_up() == 2, STEP_TIMEOUT_S, "both links of dpop2 are up")
        self._timeline.say("all links are up")
        self._inbox.mkdir()
        with (WORK_FOLDER / "received").open("wb") as out:
            self._nodes["home"].start_meshctl("recv", "--follow", "--out", str(self._inbox), stdout=out)
        self._message("dpop1", "radio check")
        self._message("dpop2", "radio check")

    def _send_file(self) -> subprocess.Popen[bytes]:
        self._timeline.say(f"dpop1: sends {self._file.name} ({self._size_bytes} bytes) to home over SATCOM")
        with (WORK_FOLDER / "file").open("wb") as out:
            sending = self._nodes["dpop1"].start_meshctl("send", "home", str(self._file), "--wait", stdout=out)
        wait_until(
            lambda: bool(self._file_lines()) or sending.poll() is not None, STEP_TIMEOUT_S, "dpop1 took the file"
        )
        if not self._file_lines():
            raise LabError(f"meshctl send ended with {sending.returncode} before the file was stored")
        self._sent.append(self._file_lines()[0]["message"])
        self._timeline.say(f"dpop1: has stored it, message {self._sent[-1]}")
        return sending

    def _cut_and_restore(self, sending: subprocess.Popen[bytes]) -> None:
        self._wait_for_share(CUT_AT_SHARE, sending)
        self._lab.link("satcom").cut()
        begun_s = time.monotonic()
        self._timeline.say(f"SATCOM is cut{self._progress()}")
        self._message("dpop1", "sent while the link was cut")
        time.sleep(max(0.0, begun_s + CUT_S - time.monotonic()))
        self._lab.link("satcom").restore()
        self._timeline.say(f"SATCOM is back after {time.monotonic() - begun_s:.1f} s")

    def _kill_and_restart(self, sending: subprocess.Popen[bytes]) -> None:
        self._wait_for_share(KILL_AT_SHARE, sending)
        self._nodes["dpop1"].kill()
        self._timeline.say(f"dpop1: SIGKILL{self._progress()}")
        self._nodes["dpop1"].start()
        self._timeline.say("dpop1: meshd runs again, from its store")

    def _fall_silent(self) -> tuple[Count, Count]:
        with contextlib.ExitStack() as stack:
            provokers = [
                Provoker(self._lab, "los0", "dpop1", "dpop2", TCPCL_PORT),
                Provoker(self._lab, "lan0", "home", "dpop2", TCPCL_PORT),
            ]
            for provoker in provokers:
                stack.callback(provoker.close)
            before = self._watch(provokers, "not silent", lambda: None)
            order = ("emcon", "set", "silent", "--for", f"{SILENT_FOR_S}s", "--reason", "demo")
            self._nodes["dpop2"].meshctl(*order)
            ordered_s = time.monotonic()
            self._timeline.say(f"dpop2: ordered silent for {SILENT_FOR_S} s")
            silent = self._watch(provokers, "silent", lambda: self._message("dpop2", "written in silence"))
            self._compare(ordered_s)
        wait_until(
            lambda: self._frames_from_dpop2(ordered_s, None).frames > 0, STEP_TIMEOUT_S, "dpop2 emits after its silence"
        )
        self._timeline.say(f"dpop2: emits again, {time.monotonic() - ordered_s:.1f} s after the order")
        return before, silent

    def _watch(self, provokers: list[Provoker], state: str, meanwhile: Callable[[], None]) -> Count:
        since_s = time.monotonic()
        meanwhile()
        provoked = 0
        while time.monotonic() < since_s + WINDOW_S:
            provoked += sum(provoker.provoke() for provoker in provokers)
            time.sleep(PROVOKE_EVERY_S)
        count = self._frames_from_dpop2(since_s, since_s + WINDOW_S)
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(count.kinds.items())) or "none"
        seen = f"{provoked} provoking frames in {WINDOW_S:g} s, {count.frames} left"
        self._timeline.say(f"dpop2, {state}: {seen} ({kinds})")
        return count

    def _compare(self, since_s: float) -> None:
        """What the silent node says that left it (`emcon verify`), and beside it what the sniffers saw."""
        (verdict,) = self._nodes["dpop2"].meshctl("emcon", "verify")
        for row in verdict["bearers"]:
            seen = self._lab.sniffer(row["bearer"], "dpop2").count(since_s).frames
            said = f"{row['device_frames']} frames by its own counters, {seen} by the sniffer"
            self._timeline.say(f"dpop2, {row['bearer']}, {row['posture']}: {said}; {row['verdict']}")

    def _frames_from_dpop2(self, since_s: float, until_s: float | None) -> Count:
        counts = [self._lab.sniffer(bearer, "dpop2").count(since_s, until_s) for bearer in ("los0", "lan0")]
        kinds: dict[str, int] = {}
        for count in counts:
            for kind, number in count.kinds.items():
                kinds[kind] = kinds.get(kind, 0) + number
        return Count(
            sum(count.frames for count in counts),
            sum(count.size_bytes for count in counts),
            kinds,
            sum(count.missed for count in counts),
        )

    def _wait_for_all(self, sending: subprocess.Popen[bytes], end_s: float) -> None:
        self._timeline.say("waiting for the file and every message")
        wait_until(
            lambda: sending.poll() is not None and not self._missing(),
            max(1.0, end_s - self._timeline.elapsed_s()),
            "everything arrived at home, and dpop1 knows",
        )
        state = self._file_lines()[-1]["state"]
        if sending.returncode:
            raise LabError(f"meshctl send --wait ended with {sending.returncode}: the file is {state}")
        self._timeline.say(f"dpop1: the file is {state}, says its delivery report")

    def _judge(self, before: Count, silent: Count) -> Verdict:
        received = self._received()
        paths = {row["message"]: Path(row["path"]) for row in received}
        return Verdict(
            _digest(self._file),
            _digest(paths[self._sent_file()]),
            len(self._sent),
            len(self._missing()),
            len(received) - len(paths),
            before,
            silent,
        )

    def _message(self, node: str, words: str) -> None:
        message = self._nodes[node].meshctl("send", "home", "-", text=f"{node}: {words}\n")[0]["message"]
        self._sent.append(message)
        self._timeline.say(f"{node}: sends {words!r} to home")

    def _wait_for_share(self, share: float, sending: subprocess.Popen[bytes]) -> None:
        wait_until(
            lambda: self._share() >= share or sending.poll() is not None,
            STEP_TIMEOUT_S + self._size_bytes * share * 8 / END_RATE_BPS,
            f"{share:.0%} of the file left dpop1",
        )

    def _progress(self) -> str:
        if self._sent_file() in (row["message"] for row in self._received()):
            return " (the file is through already: too small to be caught in the middle)"
        return f" in the middle of the transfer: dpop1 has put {self._share():.0%} of the file's size on the air"

    def _share(self) -> float:
        return self._lab.sniffer("satcom0", "dpop1").count().size_bytes / self._size_bytes

    def _sent_file(self) -> str:
        message: str = self._file_lines()[0]["message"]
        return message

    def _file_lines(self) -> list[dict[str, Any]]:
        return read_json_lines((WORK_FOLDER / "file").read_text())

    def _received(self) -> list[dict[str, Any]]:
        return read_json_lines((WORK_FOLDER / "received").read_text())

    def _missing(self) -> set[str]:
        return set(self._sent) - {row["message"] for row in self._received()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def show(verdict: Verdict, timeline: Timeline) -> int:
    """Print the verdict; the exit code."""
    equal = "equal" if verdict.digest_sent == verdict.digest_received else "DIFFERENT"
    print()
    print(f"SHA-256 sent                          {verdict.digest_sent}")
    print(f"SHA-256 received                      {verdict.digest_received}  {equal}")
    counts = f"{verdict.messages_sent} / {verdict.messages_lost} / {verdict.messages_twice}"
    print(f"messages sent / lost / twice          {counts}")
    print(f"bundles lost                          {verdict.messages_lost}")
    print(f"frames that left dpop2, {WINDOW_S:g} s before   {verdict.before.frames}")
    print(f"frames that left dpop2, {WINDOW_S:g} s silent   {verdict.silent.frames}")
    if verdict.silent.missed:
        print(f"frames the sniffer missed             {verdict.silent.missed}: the counts can't be trusted")
    print(f"{'passed' if verdict.holds() else 'FAILED'} after {timeline.elapsed_s():.0f} s")
    return 0 if verdict.holds() else 1
