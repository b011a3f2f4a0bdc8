# SPDX-License-Identifier: Apache-2.0
"""The lab leaves nothing behind, however it ends, and says what is wrong when it can't begin."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netns_lab.sandbox import children_of
from netns_lab.scenario import LAB_FOLDER

LAB = [sys.executable, str(LAB_FOLDER / "lab")]
WAITING = Path(__file__).parent / "scenarios" / "wait_for_signal.py"
TIMEOUT_S = 30.0

pytestmark = [pytest.mark.root, pytest.mark.lab]


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for child in children_of(pid):
        found |= {child} | descendants(child)
    return found


def net_namespace(pid: int | str) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def namespaces(pids: set[int]) -> set[str]:
    return {net_namespace(pid) for pid in pids}


def living_namespaces() -> set[str]:
    living = set()
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            living.add(str(link.readlink()))
        except OSError:  # it ended while we looked
            continue
    return living


def eventually(condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def lab() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*LAB, "run", str(WAITING)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as lab:
        assert lab.stdout is not None
        assert lab.stdout.readline() == "ready\n"
        yield lab
        lab.kill()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_nothing_is_left_behind(lab: subprocess.Popen[str], number: signal.Signals, code: int) -> None:
    mounts_before = Path("/proc/self/mounts").read_text()
    inside = descendants(lab.pid)
    made = namespaces(inside) - {net_namespace("self")}
    assert len(inside) >= 5  # unshare, the scenario, relay, sniffer, sleep
    assert made
    lab.send_signal(number)
    assert lab.wait(TIMEOUT_S) == code
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside))
    assert not made & living_namespaces()
    assert Path("/proc/self/mounts").read_text() == mounts_before
    assert not Path("/run/netns/dpop1").exists()


def test_ctrl_c_reaches_the_whole_group_and_ends_in_order() -> None:
    lab = subprocess.Popen(
        [*LAB, "run", str(WAITING)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with lab:
        assert lab.stdout is not None
        assert lab.stdout.readline() == "ready\n"
        inside = descendants(lab.pid)
        os.killpg(lab.pid, signal.SIGINT)
        assert lab.wait(TIMEOUT_S) == 130
        assert lab.stderr is not None
        assert lab.stderr.read() == "lab: ended by SIGINT\n"
    assert not any(Path(f"/proc/{pid}").exists() for pid in inside)


def run_lab(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    return subprocess.run(
        [*LAB, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment
    )


def test_up_exec_link_down(tmp_path: Path) -> None:
    runtime = str(tmp_path)
    up = run_lab("up", "--background", "triangle", XDG_RUNTIME_DIR=runtime)
    assert (up.returncode, up.stderr) == (0, "")
    try:
        shown = run_lab("exec", "home", "ip", "-br", "addr", "show", "dev", "satcom0", XDG_RUNTIME_DIR=runtime)
        assert "10.11.0.1/24" in shown.stdout
        second = run_lab("up", "triangle", XDG_RUNTIME_DIR=runtime)
        assert second.returncode == 1
        assert "a lab runs already" in second.stderr
        assert run_lab("link", "satcom", "cut", XDG_RUNTIME_DIR=runtime).stdout == "satcom: cut\n"
        wrong = run_lab("link", "satcon", "cut", XDG_RUNTIME_DIR=runtime)
        assert wrong.returncode == 1
        assert "has no link 'satcon'; it has: satcom, los, lan" in wrong.stderr
        assert "back end: " in run_lab("status", XDG_RUNTIME_DIR=runtime).stdout
    finally:
        down = run_lab("down", XDG_RUNTIME_DIR=runtime)
    assert (down.returncode, down.stderr) == (0, "")
    assert "no lab runs" in run_lab("down", XDG_RUNTIME_DIR=runtime).stderr


def test_probe_names_the_back_end() -> None:
    done = run_lab("probe")
    assert done.returncode == 0, done.stderr
    assert "back end: " in done.stdout
