# SPDX-License-Identifier: Apache-2.0
"""The daemon's log: one line an event, `kind key=value ...`, on stderr, where systemd or a person reads it.

Events of single bundles go to `meshctl events` only: the journal would be the slowest part of the node. Under systemd a
line begins with its priority; for a person it begins with the time.
"""

import os
import sys
import time
from collections.abc import Mapping
from typing import Final, TextIO

_ALARMS: Final = ("alarm", "emcon.alarm", "store.failed", "gate.problem")
_WARNINGS: Final = ("bundle.malformed", "report.malformed", "link.refused", "bearer.problem", "config.refused")
_QUIET: Final = ("bundle.", "bundles.", "message.")


class Journal:
    """Writes events; never payloads, keys or positions."""

    def __init__(self, stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_systemd = "JOURNAL_STREAM" in (os.environ if environ is None else environ)

    def write(self, kind: str, fields: Mapping[str, object]) -> None:
        """One line, unless the event is one of a single bundle's daily life."""
        if kind.startswith(_QUIET) and kind not in _WARNINGS:
            return
        details = " ".join(f"{key}={_text(value)}" for key, value in fields.items())
        line = f"{kind} {details}".rstrip()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime())
        prefix = f"<{_priority(kind)}>" if self._is_systemd else stamp
        self._stream.write(f"{prefix}{line}\n")
        self._stream.flush()


def _priority(kind: str) -> int:
    """Of syslog: 2 critical, 4 warning, 6 informational."""
    if kind.startswith(_ALARMS) or kind.endswith(".alarm"):
        return 2
    return 4 if kind in _WARNINGS else 6


def _text(value: object) -> str:
    """Quoted where a space, a quote or a control character would make the line ambiguous."""
    text = str(value)
    if text and text.isprintable() and not any(character in text for character in ' "='):
        return text
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
