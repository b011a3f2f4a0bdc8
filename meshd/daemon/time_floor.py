# SPDX-License-Identifier: Apache-2.0
"""A time that it certainly is by now: what certificates are judged by when the host's clock has fallen behind.

A host whose battery is empty wakes in 1970. Its certificates would not be valid yet, and expired ones would be good
again. So the time is written down now and then, and it is never earlier than what was written last. A clock that ran
ahead must not lock everybody out for good: the message of an expired certificate names the time that holds here, and
removing the file ends it.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trio

from meshd.daemon.dtn_clock import monotonic_s, wall_ms
from meshd.daemon.state_file import read_state, write_state

SAVE_INTERVAL_S: Final = 3600.0
"""A clock must have kept its time for so long before the floor rises."""
_FILE_MAX_BYTES: Final = 64
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TimeFloor:
    """The host's clock with a floor under it."""

    def __init__(self, path: Path) -> None:
        """Errors: OSError. A file that makes no sense counts as none."""
        self._path = path
        text = (read_state(path, _FILE_MAX_BYTES) or b"").strip()
        saved_s = int(text) if text.isdigit() and len(text) <= 11 else 0
        self._floor = _EPOCH + timedelta(seconds=saved_s)
        self._read_at_s = monotonic_s()

    def now(self) -> datetime:
        """The host's clock, or the floor and what has passed since it was read, whichever is later."""
        return max(self.host_now(), self._floor + timedelta(seconds=monotonic_s() - self._read_at_s))

    def host_now(self) -> datetime:
        """The host's clock as it is."""
        return _EPOCH + timedelta(milliseconds=wall_ms())

    def save(self) -> None:
        """Write down what time it is. Blocks. Errors: OSError."""
        write_state(self._path, b"%d\n" % int((self.now() - _EPOCH).total_seconds()))

    async def run(self, alarm: Callable[[str], None]) -> None:
        """Save now and then; what fails is told, and tried again the next time."""
        while True:
            await trio.sleep(SAVE_INTERVAL_S)
            try:
                await trio.to_thread.run_sync(self.save)
            except OSError as error:
                alarm(f"{self._path} can't be written: {error.strerror}")
