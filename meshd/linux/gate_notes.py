# SPDX-License-Identifier: Apache-2.0
"""What the gate notes about devices for a daemon that starts later: their shaping, and which it has set down.

The files lie below /run, so that they outlive the daemon but not a boot, which brings back both by itself.
"""

from pathlib import Path

from meshd.base.errors import MeshdError
from meshd.linux.nfnetlink import chain_name
from meshd.linux.shaping import (
    RECORD_SIZE_MAX_BYTES,
    ShapingRecord,
    ShapingRecordError,
    decode_record_untrusted,
    encode_record,
)


class NoteError(MeshdError):
    """A note can't be kept or read; the message says what comes of that."""


class GateNotes:
    """In one directory; None: nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def write_shaping(self, device: str, record: ShapingRecord) -> None:
        """An empty record needs no file. Errors: NoteError."""
        try:
            self._write(f"shaping-{chain_name(device)}", encode_record(record) if record else None)
        except OSError as exc:
            raise NoteError(f"a restart would lose the shaping of this device: {exc}") from exc

    def read_shaping(self, device: str) -> ShapingRecord:
        """What stood at its root. Errors: NoteError."""
        if self._directory is None:
            return ()
        try:
            with (self._directory / f"shaping-{chain_name(device)}").open("rb") as file:
                return decode_record_untrusted(file.read(RECORD_SIZE_MAX_BYTES + 1))
        except FileNotFoundError:
            return ()
        except (OSError, ShapingRecordError) as exc:
            raise NoteError(f"the shaping of this device is lost: {exc}") from exc

    def write_down(self, device: str, is_down: bool) -> None:
        """Whether it is down by our doing. Errors: NoteError."""
        try:
            self._write(f"down-{chain_name(device)}", b"" if is_down else None)
        except OSError as exc:
            raise NoteError(f"after a restart nobody would set this device up: {exc}") from exc

    def read_down(self, device: str) -> bool:
        """Whether it is."""
        return self._directory is not None and (self._directory / f"down-{chain_name(device)}").exists()

    def _write(self, name: str, content: bytes | None) -> None:
        if self._directory is None:
            return
        path = self._directory / name
        if content is None:
            path.unlink(missing_ok=True)
            return
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(path)
