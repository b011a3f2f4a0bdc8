# SPDX-License-Identifier: Apache-2.0
"""A small file that is either the old one or the new one, whatever happens: write beside it, fsync, rename, fsync.

All calls block; the shell makes them in a thread. What is in the file is for others.
"""

import os
from pathlib import Path
from typing import Final

from meshd.base.errors import StoreError

DIRECTORY_MODE: Final = 0o700


def read_state(path: Path, size_max_bytes: int) -> bytes | None:
    """The file's content, at most one byte more than `size_max_bytes`; None: there is no file.

    Errors: OSError.
    """
    try:
        with path.open("rb") as file:
            return file.read(size_max_bytes + 1)
    except FileNotFoundError:
        return None


def write_state(path: Path, data: bytes) -> None:
    """Replace the file; durable on return.

    Errors: OSError; the file is then the old one or the new one.
    """
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)


def remove_state(path: Path) -> None:
    """Remove the file, if it is there; durable on return.

    Errors: OSError.
    """
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Names of files in it are durable on return. Errors: OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Errors: StoreError names what is in the way."""
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        remedy = "give it to meshd's user, or change [node] state_dir"
        raise StoreError(f"state directory {path} can't be made: {error.strerror}; {remedy}") from error
