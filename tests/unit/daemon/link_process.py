# SPDX-License-Identifier: Apache-2.0
"""A process to be killed: `python link_process.py seal|open DIRECTORY`, one end of a radio link with its files.

seal: writes sealed datagrams to standard output, one a line in hexadecimal, until it is killed.
open: reads such lines from standard input and writes the plain text of what it hands on, and a dash for what it
refuses; what waits for a mark is handed on when the mark is on the disk.
"""

import sys
from pathlib import Path

from meshd.bundle.eid import parse_eid
from meshd.cl.fountain.datagram import DatagramError
from meshd.cl.fountain.opener import Opener
from meshd.cl.fountain.sealer import Sealer
from meshd.daemon.link_state import LinkState
from meshd.security.link_keys import LinkKeys

BEARER = "satcom0"
SENDER, RECEIVER = parse_eid("dtn://dpop1/"), parse_eid("dtn://dpop2/")
KEYS = LinkKeys({1: b"\x01" * 32}, 1)
UTC_S = 1_790_000_000
AHEAD = 64


def tell(line: str) -> None:
    """At once: what was told before a kill is known."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def seal(directory: Path) -> None:
    """The clock stands still: every start looks as if it were in the same second."""
    sealer = Sealer(SENDER, BEARER, KEYS, LinkState(directory).take_boot_number(UTC_S))
    while True:
        tell(sealer.seal(b"frames").hex())


def open_all(directory: Path) -> None:
    """Save marks as soon as they are asked for."""
    state = LinkState(directory)
    opener = Opener((SENDER, RECEIVER), BEARER, KEYS, state.read_marks(BEARER), AHEAD)
    for line in sys.stdin:
        try:
            opened = opener.open_untrusted(bytes.fromhex(line))
        except DatagramError:
            tell("-")
            continue
        handed = [] if opened is None else [opened]
        if opener.is_saving_wanted:
            marks = opener.marks_to_save()
            state.write_marks(BEARER, marks)
            handed += opener.saved(marks)
        for each in handed:
            tell(each.plaintext.decode())


if __name__ == "__main__":
    {"seal": seal, "open": open_all}[sys.argv[1]](Path(sys.argv[2]))
