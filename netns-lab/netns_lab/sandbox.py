# SPDX-License-Identifier: Apache-2.0
"""The lab lives in its own namespaces: the outer process, the inner one, and the probe that says why that can't be.

The outer process starts `unshare --mount --net --pid --fork --kill-child` (plus `-Ur` for an ordinary user) with the
same program inside, as process 1 of a new PID namespace. Whatever ends one of the two, the kernel then ends
everything inside and forgets its namespaces and mounts: the outer one is tied to unshare by the parent-death signal,
unshare to the inner one by --kill-child.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from netns_lab.backend import netem_problem, run_program
from netns_lab.errors import LabError
from netns_lab.kernel import become_realtime, die_with_parent, inside, open_packet_socket, switch_offloads_off

INSIDE_OPTION: Final = "--inside"
"""First argument of the program when it is the inner process."""
WORK_FOLDER: Final = Path("/run/lab")
"""On the sandbox's own tmpfs: scratch files of scenarios, gone with it."""
PROGRAM: Final = Path(__file__).resolve().parent.parent / "lab"
NEEDED_PROGRAMS: Final = {"unshare": "util-linux", "nsenter": "util-linux", "mount": "mount", "ip": "iproute2"}

_ORDINARY_USER_SWITCHES: Final = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that allows userns for unshare",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
)


class LabInterrupted(BaseException):
    """Somebody asked the lab to end (SIGINT, SIGTERM): unwinds everything, like KeyboardInterrupt."""


def sandbox_command(arguments: Sequence[str]) -> list[str]:
    """The command line that runs the lab program with `arguments` inside a new sandbox."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *user, "--mount", "--net", "--pid", "--fork", "--kill-child", "--"]
    return [*unshare, sys.executable, str(PROGRAM), INSIDE_OPTION, *arguments]


def run_in_sandbox(arguments: Sequence[str]) -> int:
    """Run the lab program inside a new sandbox and wait; the exit code is the inner one's."""
    refuse_missing_programs()
    process = subprocess.Popen(sandbox_command(arguments), preexec_fn=die_with_parent)
    asked = 0

    def pass_on(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        inner = children_of(process.pid)
        if asked > 2 or not inner:
            process.kill()
        for child in inner:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    code = process.wait()
    return code if code >= 0 else 128 - code


def children_of(pid: int) -> list[int]:
    """PIDs of a process's children."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended while we looked
            continue
        if int(fields[1]) == pid:
            children.append(int(stat.parent.name))
    return children


def refuse_missing_programs() -> None:
    """LabError that names every missing program and its package at once."""
    missing = [program for program in NEEDED_PROGRAMS if shutil.which(program, path=_path()) is None]
    if missing:
        packages = sorted({NEEDED_PROGRAMS[program] for program in missing})
        raise LabError(f"programs missing: {', '.join(missing)}; install {' '.join(packages)}")


def _path() -> str:
    """The search path with the system folders that an ordinary user's may lack."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def enter() -> None:
    """The inner process's first steps: private /run and /proc, loopback, and signals that unwind."""
    if os.getpid() != 1:
        raise LabError(f"{INSIDE_OPTION} is for the lab itself; leave it out")
    os.environ["PATH"] = _path()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_IGN)
        raise LabInterrupted(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    run_program(["mount", "-t", "tmpfs", "-o", "mode=0755", "meshd-lab", "/run"])
    run_program(["mount", "-t", "proc", "proc", "/proc"])
    run_program(["ip", "link", "set", "lo", "up"])
    WORK_FOLDER.mkdir(mode=0o755)


def probe_inside() -> list[str]:
    """Make a veth pair and all that a lab needs of the kernel; lines for people. LabError names what is refused."""
    run_program(["ip", "netns", "add", "probe"])
    run_program(["ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1", "netns", "probe"])
    try:
        switch_offloads_off("probe0")
        with inside("probe"):
            open_packet_socket("probe1", ignore_outgoing=True).close()
    except OSError as error:
        raise LabError(f"packet sockets on veth: {error.strerror or error}") from None
    finally:
        run_program(["ip", "netns", "del", "probe"])
    problem = netem_problem()
    return [
        "sandbox: " + ("root" if _real_user() == 0 else "ordinary user in a user namespace"),
        "veth, namespaces, packet sockets: work",
        "back end: " + (f"user-space relay (netem: {problem})" if problem else "netem"),
        "SCHED_FIFO: " + ("permitted" if become_realtime() else "not permitted, the relay runs at normal priority"),
    ]


def _real_user() -> int:
    inside_id, outside_id, count = (int(field) for field in Path("/proc/self/uid_map").read_text().split()[:3])
    return 0 if inside_id == outside_id == 0 and count > 1 else outside_id or 1


def probe() -> None:
    """Try a sandbox. LabError with cause and remedy when there can be none; silent otherwise."""
    refuse_missing_programs()
    done = subprocess.run(sandbox_command(["probe", "--quiet"]), capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"no lab can be made here: {_cause(done.stderr.strip())}")


def _cause(words: str) -> str:
    if os.geteuid() == 0:
        return f"{words}; root here lacks CAP_SYS_ADMIN or CAP_NET_ADMIN (a container? give it these, or run as a user)"
    for path, forbidding, remedy in _ORDINARY_USER_SWITCHES:
        with contextlib.suppress(OSError):
            if Path(path).read_text().strip() == forbidding:
                return f"{words}; user namespaces are forbidden by {path}; remedy, as root: {remedy}"
    return f"{words}; remedy: run as root, or have user namespaces, veth and AF_PACKET allowed"
