# SPDX-License-Identifier: Apache-2.0
"""A lab that stays (`lab up`): its state file, entering it from other shells, its control socket, and its end.

The state file lies in $XDG_RUNTIME_DIR, else in a private folder in the temporary directory; it names the outer
process by PID and start time, so that a reused PID is never mistaken for a lab. The control socket is inside the
sandbox, on its private /run.
"""

import contextlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from netns_lab.errors import LabError
from netns_lab.sandbox import WORK_FOLDER, children_of

CONTROL_SOCKET: Final = WORK_FOLDER / "control.sock"
REQUEST_MAX_BYTES: Final = 65536
START_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 15.0
POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class KeptLab:
    """A lab that runs, as its state file has it."""

    pid: int
    """Of the outer process."""
    start_ticks: int
    topology: str

    def is_alive(self) -> bool:
        """True while that very process runs."""
        return start_ticks(self.pid) == self.start_ticks

    def inner_pid(self) -> int:
        """PID, seen from outside, of the inner process. LabError when it is gone."""
        for unshare in children_of(self.pid):
            for inner in children_of(unshare):
                return inner
        raise LabError("the lab is ending; start it again with `lab up`")

    def is_ready(self) -> bool:
        """True once it answers inside."""
        try:
            return Path(f"/proc/{self.inner_pid()}/root{CONTROL_SOCKET}").exists()
        except (LabError, OSError):  # it is starting
            return False


def start_ticks(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None when there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None


def state_file() -> Path:
    """Where this user's lab is written down. LabError when the folder belongs to somebody else."""
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "meshd-lab.json"
    folder = Path(tempfile.gettempdir()) / f"meshd-lab-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
        raise LabError(f"{folder} isn't a private folder of this user; remove it or set XDG_RUNTIME_DIR")
    return folder / "state.json"


def find_kept_lab() -> KeptLab | None:
    """The lab of this user, if one runs."""
    try:
        fields = json.loads(state_file().read_text())
        lab = KeptLab(fields["pid"], fields["start_ticks"], fields["topology"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return lab if lab.is_alive() else None


def need_kept_lab() -> KeptLab:
    """The lab of this user. LabError when none runs."""
    if (lab := find_kept_lab()) is None:
        raise LabError("no lab runs; start one with `lab up TOPOLOGY`")
    return lab


def start_in_background(command: Sequence[str]) -> None:
    """Start a lab that stays, away from this terminal, and wait until it is ready. LabError with its own words."""
    log = state_file().with_suffix(".log")
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while (lab := find_kept_lab()) is None or not lab.is_ready():
        if process.poll() is not None or time.monotonic() > deadline_s:
            process.kill()
            raise LabError(f"the lab didn't start: {log.read_text(errors='replace').strip()}")
        time.sleep(POLL_S)


@contextlib.contextmanager
def written_down(topology: str) -> Iterator[None]:
    """Keep the state file while the block runs. LabError when this user has a lab already."""
    if (other := find_kept_lab()) is not None:
        raise LabError(f"a lab runs already ({other.topology}, PID {other.pid}); end it with `lab down`")
    ticks = start_ticks(os.getpid())
    assert ticks is not None, "we run"
    path = state_file()
    path.write_text(json.dumps(asdict(KeptLab(os.getpid(), ticks, topology))))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def enter_command(lab: KeptLab, arguments: Sequence[str]) -> list[str]:
    """The command line that runs a program in the lab's sandbox."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return ["nsenter", "--target", str(lab.inner_pid()), *user, "--mount", "--net", "--pid", "--", *arguments]


def end_kept_lab(lab: KeptLab) -> None:
    """Ask the lab to end and wait. LabError when it doesn't."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(lab.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + END_TIMEOUT_S
    while lab.is_alive():
        if time.monotonic() > deadline_s:
            raise LabError(f"the lab (PID {lab.pid}) doesn't end; kill -9 {lab.pid} ends it and all inside")
        time.sleep(POLL_S)


def serve_control(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer `ask` inside the sandbox until a signal unwinds this. One packet a question, one a connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(CONTROL_SOCKET))
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection:
                _answer(connection, handle)


def _answer(connection: socket.socket, handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    ready, _, _ = select.select([connection], [], [], 1.0)
    if not ready:
        return
    try:
        answer = handle(json.loads(connection.recv(REQUEST_MAX_BYTES)))
    except (LabError, OSError) as error:
        answer = {"error": str(error)}
    except (ValueError, KeyError, TypeError) as error:
        answer = {"error": f"bad request: {error!r}"}
    with contextlib.suppress(OSError):  # the asker may be gone
        connection.send(json.dumps(answer).encode())


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """Ask the lab, from inside its sandbox. LabError when it refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(CONTROL_SOCKET))
        connection.send(json.dumps(request).encode())
        answer: dict[str, Any] = json.loads(connection.recv(REQUEST_MAX_BYTES))
    if "error" in answer:
        raise LabError(str(answer["error"]))
    return answer
