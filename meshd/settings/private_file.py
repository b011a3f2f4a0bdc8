# SPDX-License-Identifier: Apache-2.0
"""Files with secrets: nobody else may read them, and what is there is not overwritten by accident.

Written with mode 0600, beside their place, synced, and put there in one step. A file that others may read is refused,
since the secret in it is none any more.
"""

import os
import stat
from pathlib import Path
from typing import Final

from meshd.base.errors import SettingsError

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read_private(path: Path, size_max_bytes: int) -> bytes:
    """A secret's content. Errors: SettingsError: not there, readable by others, somebody else's, too large."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(size_max_bytes + 1)
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}") from error
    if stat.S_IMODE(status.st_mode) & _OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise SettingsError(f"{path} has mode {mode:04o}: others may read this secret; make a new one, or chmod 600 it")
    if status.st_uid not in (0, os.geteuid()):
        raise SettingsError(f"{path} belongs to user {status.st_uid}: chown it to the user that meshd runs as")
    if len(data) > size_max_bytes:
        raise SettingsError(f"{path} has more than {size_max_bytes} bytes: it is not the right file")
    return data


def write_private(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Put a file there, mode 0600, whole or not at all, durable on return.

    Errors: SettingsError: it is there already and may not be overwritten, or it can't be written.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        _write(fresh, data)
        try:
            if overwrite:
                fresh.replace(path)
            else:
                os.link(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except FileExistsError as error:
        raise SettingsError(f"{path} is there already: use --force to replace it") from error
    except OSError as error:
        raise SettingsError(f"{path} can't be written: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
