# SPDX-License-Identifier: Apache-2.0
"""Sending files and taking messages off the daemon into files, piece by piece.

A few pieces are on their way at once, so that neither side waits for the other, and no more than those are in memory
whatever the size of the file.

Receiving is safe against a crash on either side: the message goes into a temporary file beside its final place, is
fsynced, renamed to a name made from its ID, the directory is fsynced, and only then is it confirmed. Whoever dies
before that is given the same message again and comes to the same name: a file of the right size is there already and
is confirmed as it is; a temporary file is begun anew.
"""

import os
import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from meshd.base.limits import PART_SIZE_BYTES
from meshd.client.client import Client
from meshd.client.errors import ClientError, DaemonUnreachable, ReplyTimeout, SizeMismatch
from meshd.client.replies import ReceivedMessage, SentMessage
from meshd.control.errors import ControlError

PIECE_SIZE_BYTES: Final = PART_SIZE_BYTES
PIECES_IN_FLIGHT_MAX: Final = 4
PIECE_TIMEOUT_S: Final = 300.0
"""The daemon answers a piece when it can take more: a slow disk or a full queue may take its time."""
NAME_CHARACTERS_MAX: Final = 100
SAME_NAMES_MAX: Final = 100

Progress = Callable[[int, int | None], None]
"""Called with the bytes done and the bytes in all (None: unknown)."""


def send_file(
    client: Client,
    destination: str,
    file: BinaryIO,
    *,
    size_bytes: int | None = None,
    precedence: str = "ROUTINE",
    lifetime_ms: int | None = None,
    report: bool = True,
    endpoint: str = "inbox",
    progress: Progress | None = None,
) -> SentMessage:
    """Send all that can be read from `file` as one message. When this returns, the daemon has stored it for good.

    Raises:
      ControlError: the daemon refuses; nothing was sent.
      SizeMismatch: the file was not `size_bytes` long; nothing was sent.
      DaemonUnreachable, ReplyTimeout: the session broke; unless the last answer alone is missing, nothing was sent.
      OSError: the file can't be read; nothing was sent.
    """
    submission = client.send_open(
        destination,
        precedence=precedence,
        lifetime_ms=lifetime_ms,
        size_bytes=size_bytes,
        report=report,
        endpoint=endpoint,
    )
    try:
        _send_pieces(client, submission, file, size_bytes, progress)
    except (SizeMismatch, OSError, ControlError):
        with suppress(ControlError):
            client.send_abort(submission)
        raise
    return _close(client, submission)


def _close(client: Client, submission: int) -> SentMessage:
    try:
        return client.send_close(submission, PIECE_TIMEOUT_S)
    except (DaemonUnreachable, ReplyTimeout) as error:
        raise type(error)(
            f"{error}. Whether the message was stored is unknown: look for it with `meshctl bundles ls` before"
            " sending it again"
        ) from error


def _send_pieces(
    client: Client, submission: int, file: BinaryIO, size_bytes: int | None, progress: Progress | None
) -> None:
    in_flight: deque[tuple[int, int]] = deque()
    done_bytes = read_bytes = 0
    while True:
        data = _read_piece(file)
        read_bytes += len(data)
        if size_bytes is not None and (read_bytes > size_bytes or (not data and read_bytes < size_bytes)):
            raise SizeMismatch(f"the file changed while it was sent: {size_bytes} bytes before, {read_bytes} read now")
        if data:
            in_flight.append((client.start("send.data", {"submission": submission, "data": data}), len(data)))
        while in_flight and (not data or len(in_flight) >= PIECES_IN_FLIGHT_MAX):
            request_id, piece_bytes = in_flight.popleft()
            client.finish(request_id, PIECE_TIMEOUT_S)
            done_bytes += piece_bytes
            if progress is not None:
                progress(done_bytes, size_bytes)
        if not data:
            return


def _read_piece(file: BinaryIO) -> bytes:
    """Read a whole piece, also from a pipe that gives less at a time."""
    data = file.read(PIECE_SIZE_BYTES)
    while data and len(data) < PIECE_SIZE_BYTES and (more := file.read(PIECE_SIZE_BYTES - len(data))):
        data += more
    return data


def message_file_name(message: ReceivedMessage, number: int = 0) -> str:
    """A name made from the message alone, safe in every file system: `dpop1-3f9a1c0be2d4.bin`."""
    source = re.sub(r"^ipn:(?://)?", "ipn-", message.source)
    node = re.sub(r"^dtn:(?://)?", "", source).split("/")[0]
    words = [_safe(node) or "unknown", _safe(message.ref) or "message"]
    return "-".join([*words, str(number)] if number else words) + ".bin"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:NAME_CHARACTERS_MAX].strip(".")


def save_message(
    client: Client,
    receiver: int,
    message: ReceivedMessage,
    directory: Path,
    progress: Progress | None = None,
) -> Path:
    """Write the message that `recv_next` told of into `directory`, make it durable, confirm it; returns the path.

    Raises:
      OSError: the file can't be written; the message stays with the daemon.
      SizeMismatch: the daemon gave less than it announced; the message stays with it.
      ControlError, DaemonUnreachable, ReplyTimeout: the same, unless the confirmation's answer alone is missing.
    """
    path, exists = _final_path(directory, message)
    if not exists:
        _write_durably(client, receiver, message, path, progress)
    _sync_directory(directory)
    client.recv_confirm(receiver, message.message)
    return path


def _final_path(directory: Path, message: ReceivedMessage) -> tuple[Path, bool]:
    """Where the message goes, and whether it is there already. A different file of that name is never touched."""
    for number in range(SAME_NAMES_MAX):
        path = directory / message_file_name(message, number)
        if not os.path.lexists(path):
            return path, False
        if path.is_file() and path.stat().st_size == message.size_bytes:
            return path, True
    raise ClientError(f"{directory} holds {SAME_NAMES_MAX} other files named like this message; move them away")


def _write_durably(
    client: Client, receiver: int, message: ReceivedMessage, path: Path, progress: Progress | None
) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "xb", buffering=0) as file:
            _write_pieces(client, receiver, message, file.fileno(), progress)
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _write_pieces(
    client: Client, receiver: int, message: ReceivedMessage, descriptor: int, progress: Progress | None
) -> None:
    in_flight: deque[int] = deque()
    asked_bytes = done_bytes = 0
    while done_bytes < message.size_bytes:
        while asked_bytes < message.size_bytes and len(in_flight) < PIECES_IN_FLIGHT_MAX:
            size_bytes = min(PIECE_SIZE_BYTES, message.size_bytes - asked_bytes)
            piece = {"message": message.message, "offset": asked_bytes, "size_bytes": size_bytes}
            in_flight.append(client.start("recv.read", {"receiver": receiver, **piece}))
            asked_bytes += size_bytes
        data: bytes = client.finish(in_flight.popleft(), PIECE_TIMEOUT_S)["data"]
        piece_bytes = min(PIECE_SIZE_BYTES, message.size_bytes - done_bytes)
        while len(data) < piece_bytes:  # the daemon may give less where a bundle ends
            data += _read_rest(client, receiver, message, done_bytes + len(data), piece_bytes - len(data))
        _write_all(descriptor, data)
        done_bytes += len(data)
        if progress is not None:
            progress(done_bytes, message.size_bytes)


def _read_rest(client: Client, receiver: int, message: ReceivedMessage, offset: int, size_bytes: int) -> bytes:
    data = client.recv_read(receiver, message.message, offset, size_bytes)
    if not data:
        raise SizeMismatch(f"message {message.ref} ends at {offset} of {message.size_bytes} bytes; it stays with meshd")
    return data


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
