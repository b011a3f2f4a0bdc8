# SPDX-License-Identifier: Apache-2.0
"""Reads a process's output line by line in the background, so that tests can wait for what they expect there."""

import threading
import time
from typing import IO

PATIENCE_S = 30.0


class LineReader:
    """All lines so far, and waiting for one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            with self._changed:
                self._lines.append(line.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def wait_for(self, text: str) -> str:
        """The first line that holds this text, past or to come."""
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            while True:
                for line in self._lines:
                    if text in line:
                        return line
                left_s = deadline - time.monotonic()
                if self._is_over or left_s <= 0:
                    raise AssertionError(f"no line with {text!r} came:\n" + "\n".join(self._lines))
                self._changed.wait(left_s)

    def text(self) -> str:
        """Everything until now."""
        with self._changed:
            return "\n".join(self._lines)

    def close(self) -> None:
        """The process has ended."""
        self._thread.join(PATIENCE_S)
        self._stream.close()
