# SPDX-License-Identifier: Apache-2.0
"""What the sealed datagrams of radio links need on the disk: the node's boot number, and replay marks for each bearer.

`security/boot_number.py` and `security/replay_window.py` decide what is written; a file here is replaced in one step
and is on the disk when a call returns. All calls block.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshd.bundle.eid import Eid
from meshd.daemon.state_file import read_state, write_state
from meshd.security.boot_number import (
    BOOT_FILE_MAX_BYTES,
    DurableBootNumber,
    choose_boot_number,
    pack_boot_number,
    parse_boot_number_untrusted,
)
from meshd.security.replay_window import MARKS_FILE_MAX_BYTES, Mark, pack_marks, parse_marks_untrusted

BOOT_FILE: Final = "link.boot"


class LinkState:
    """The files in the state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take_boot_number(self, utc_s: int | None) -> DurableBootNumber:
        """The number of this start, once for each start, whatever bearers there are.

        Args:
            utc_s: the host's clock in Unix seconds; None when it is known to be wrong. Never a time floor: that is read
                from the same disk, hence as old as the disk is.

        Errors:
            BootNumberError: nothing may be sent.
            SettingsError: the file is damaged.
            OSError: it can't be read or written; nothing may be sent then either.
        """
        path = self._directory / BOOT_FILE
        data = read_state(path, BOOT_FILE_MAX_BYTES)
        saved = None if data is None else parse_boot_number_untrusted(data, str(path))
        number = choose_boot_number(saved, utc_s)
        write_state(path, pack_boot_number(number))
        return DurableBootNumber(number)

    def read_marks(self, bearer: str) -> dict[Eid, Mark]:
        """As written last; empty when there is no file. Errors: SettingsError: it is damaged; OSError."""
        path = self._marks_path(bearer)
        data = read_state(path, MARKS_FILE_MAX_BYTES)
        return {} if data is None else parse_marks_untrusted(data, str(path))

    def write_marks(self, bearer: str, marks: Mapping[Eid, Mark]) -> None:
        """On return they are on the disk. Errors: OSError."""
        write_state(self._marks_path(bearer), pack_marks(marks))

    def _marks_path(self, bearer: str) -> Path:
        return self._directory / f"{bearer}.link-marks"
