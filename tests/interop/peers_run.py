# SPDX-License-Identifier: Apache-2.0
"""meshd and real daemons of other implementations: bundles pass both ways, unchanged, by MTCP and by TCPCLv4.

    MESHD_DTN7_RS=/path/to/dtnd python -m tests.interop.peers_run

MESHD_DTN7_RS, MESHD_DTN7_GO and MESHD_HARDY name the program of a daemon; a peer whose variable is not set is left out,
and without any the run ends at once, saying so.

- dtn7-rs 0.21: `cargo install dtn7 --locked --bin dtnd`, nothing but a Rust toolchain is needed.
- dtn7-go 0.9: `dtnd`; later releases have no TCPCLv4.
- Hardy 0.2: `hardy-bpa-server` with TCPCLv4 and file-cla.

Everything runs in a network namespace of its own, so nothing leaves the machine, and takes a minute and a half. A table
of results, faults of a peer that rule a case out with their reason; exit code 1 when a case failed. Configurations and
logs of all daemons stay in the folder named at the end.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from meshd.client.errors import ClientError
from meshd.control.errors import ControlError
from tests.interop.peer_daemon import PeerDaemon, PeerError
from tests.interop.peer_daemons import Dtn7Go, Dtn7Rs, Hardy
from tests.interop.peer_scene import scene

PEERS: Final[dict[str, tuple[str, type[PeerDaemon]]]] = {
    "dtn7-rs": ("MESHD_DTN7_RS", Dtn7Rs),
    "dtn7-go": ("MESHD_DTN7_GO", Dtn7Go),
    "hardy": ("MESHD_HARDY", Hardy),
}
FAILED: Final = "FAILED"
INSIDE: Final = "--inside"
FAILURES: Final = (AssertionError, PeerError, ControlError, ClientError, OSError)


def enter_namespace() -> int:
    """Run this again where there is nothing but a loopback device."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "--net", *as_root, sys.executable, "-m", "tests.interop.peers_run", INSIDE, *sys.argv[1:]]
    return subprocess.run(command, check=False).returncode


def attempt(case: Callable[[], None]) -> tuple[str, float]:
    """`passed` or why not, and how long it took."""
    begin = time.monotonic()
    try:
        case()
        outcome = "passed"
    except FAILURES as error:
        outcome = f"{FAILED}: {type(error).__name__}: {error}"
    return outcome.partition("\n")[0], time.monotonic() - begin


def run_way(folder: Path, name: str, cl: str, dialer: str) -> int:
    """All cases of one peer and way; returns how many failed."""
    variable, kind = PEERS[name]
    failed = 0
    with scene(folder, cl, dialer, partial(kind, Path(os.environ[variable]).absolute())) as both:
        for title, case in both.cases().items():
            reason = kind.left_out.get((cl, title))
            outcome, duration_s = (f"left out: {reason}", 0.0) if reason else attempt(case)
            failed += outcome.startswith(FAILED)
            sys.stdout.write(f"{name:8}  {cl:7}  {dialer:5}  {title:17}  {duration_s:5.1f} s  {outcome}\n")
            sys.stdout.flush()
    return failed


def run(peers: list[str]) -> int:
    """The whole table; returns the exit code."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    folder = Path(tempfile.mkdtemp(prefix="meshd-peers-"))
    sys.stdout.write("peer      CL       dials  case               time     result\n")
    ways = [(name, cl, dialer) for name in peers for cl, dialer in PEERS[name][1].ways]
    failed = 0
    for name, cl, dialer in ways:
        try:
            failed += run_way(folder / f"{name}-{cl}-{dialer}", name, cl, dialer)
        except PeerError as error:
            failed += 1
            sys.stdout.write(f"{name:8}  {cl:7}  {dialer:5}  {FAILED}: {error}\n")
    sys.stdout.write(f"{failed} failed; configurations and logs are in {folder}\n")
    return 1 if failed else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    peers = [name for name, (variable, _) in PEERS.items() if os.environ.get(variable)]
    if not peers:
        variables = ", ".join(variable for variable, _ in PEERS.values())
        sys.stdout.write(f"no peer to run against: name the program of one in {variables}\n")
        return 0
    return run(peers) if arguments.inside else enter_namespace()


if __name__ == "__main__":
    sys.exit(main())
