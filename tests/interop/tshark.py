# SPDX-License-Identifier: Apache-2.0
"""tshark as an oracle: what it finds in a capture of TCPCLv4, and what it complains about.

It reads in two passes: in the first it can't know that the rest of a transfer follows. One bundle and what belongs to
it in a capture: tshark 4.0 crashes on some that hold more.
"""

import subprocess
from pathlib import Path
from typing import Final

ALARM_LEAST: Final = 0x00400000
"""Expert notes, warnings and errors; below it is chat."""
HARMLESS: Final = frozenset({"Unknown type code"})
"""No dissector for what is in a payload or in a private block: it is not looked into."""
FIELDS: Final = (
    "_ws.malformed",
    "_ws.expert.message",
    "_ws.expert.severity",
    "bpv7.canonical.type_code",
    "bpv7.crc_status",
    "bpv7.create_ts.seqno",
    "bpv7.primary.dst_uri",
    "bpv7.primary.src_uri",
    "tcpcl.v4.mhdr.type",
    "tcpcl.v4.msg_reject.head",
    "tcpcl.v4.ses_term.reason",
    "tcpcl.v4.sess_init.nodeid_data",
    "tcpcl.v4.sess_term.flags.reply",
    "tcpcl.v4.xfer_refuse.reason",
    "tcpcl.v4.xferext.transfer_length.total_len",
)


class Dissection:
    """What tshark makes of a capture."""

    def __init__(self, capture: Path) -> None:
        command = ["tshark", "-2", "-r", str(capture), "-Y", "tcpcl", "-T", "fields", "-E", "occurrence=a"]
        command += ["-E", "aggregator=|", *(f"-e{name}" for name in FIELDS)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self._frames = [
            [value.split("|") if value else [] for value in line.split("\t")] for line in output.splitlines()
        ]

    def values(self, name: str) -> list[str]:
        """All values of a field, over all frames, in order."""
        column = FIELDS.index(name)
        return [value for frame in self._frames for value in frame[column]]

    def numbers(self, name: str) -> list[int]:
        """The same of a field of numbers."""
        return [int(value, 0) for value in self.values(name)]

    @property
    def alarms(self) -> list[str]:
        """What tshark holds to be wrong."""
        messages = zip(self.values("_ws.expert.message"), self.numbers("_ws.expert.severity"), strict=True)
        grave = [message for message, severity in messages if severity >= ALARM_LEAST and message not in HARMLESS]
        return [f"malformed: {value}" for value in self.values("_ws.malformed")] + grave
