# SPDX-License-Identifier: Apache-2.0
"""The coded errors of the control protocol: one table of name, number on the wire and exit code of meshctl.

The names and numbers are part of the protocol's version: a new error gets a new number, none is used again.
The texts of the errors are for people and may change.
"""

from types import MappingProxyType
from typing import Any, Final, NamedTuple

from meshd.base.errors import MeshdError, RemoteProtocolError


class ErrorSpec(NamedTuple):
    """One row of the table: what the error is called, its number, and how meshctl ends because of it."""

    name: str
    code: int
    exit_code: int
    doc: str


_ROWS: Final = (
    ErrorSpec("bad_frame", 1, 1, "the bytes are no frame of this protocol, or above its limit; the session ends"),
    ErrorSpec("bad_request", 2, 1, "the frame is no request, or one too many at a time"),
    ErrorSpec("hello_required", 3, 1, "the first request of a session has to be hello"),
    ErrorSpec("unsupported_version", 4, 1, "this daemon does not speak the version that hello asked for"),
    ErrorSpec("unknown_method", 5, 1, "there is no such method"),
    ErrorSpec("bad_params", 6, 2, "a parameter is unknown, missing, of the wrong type or impossible"),
    ErrorSpec("unauthorised", 10, 7, "the user may not do this"),
    ErrorSpec("not_found", 11, 5, "there is no such thing"),
    ErrorSpec("ambiguous", 12, 5, "the short reference fits more than one bundle"),
    ErrorSpec("timeout", 13, 6, "it did not happen within the time given"),
    ErrorSpec("refused_by_emcon", 14, 4, "the emission control in force forbids it"),
    ErrorSpec("refused_by_policy", 15, 4, "a rule of the configuration forbids it"),
    ErrorSpec("store_full", 16, 1, "the store has no room"),
    ErrorSpec("too_large", 17, 1, "the message or the answer is above its limit"),
    ErrorSpec("failed", 18, 1, "it could not be done; the message says why"),
    ErrorSpec("shutting_down", 19, 3, "the daemon is about to end"),
    ErrorSpec("overrun", 20, 1, "the client did not read what it asked for; the session ends"),
)
ERRORS: Final = MappingProxyType({row.name: row for row in _ROWS})
"""Every error by its name."""

EXIT_FAILED: Final = 1


class FrameError(RemoteProtocolError):
    """Bytes from the other side are no frame of the control protocol: the session can't go on."""


class ControlError(MeshdError):
    """An error that the daemon answers with, and that the client raises again on its side.

    `name` is one of ERRORS on the daemon's side; a client also keeps a name that a newer daemon invented.
    `data` is a map with details for programs, or None.
    """

    def __init__(self, name: str, message: str, data: dict[str, Any] | None = None) -> None:
        """Name the error by its row in ERRORS and say what went wrong, with what, and what to do about it."""
        super().__init__(message)
        self.name = name
        self.message = message
        self.data = data

    @property
    def code(self) -> int:
        """The number on the wire; 0 for a name that is not in the table."""
        row = ERRORS.get(self.name)
        return row.code if row else 0

    @property
    def exit_code(self) -> int:
        """How meshctl ends because of this error."""
        row = ERRORS.get(self.name)
        return row.exit_code if row else EXIT_FAILED

    def to_wire(self) -> dict[str, Any]:
        """The error as the map that a response carries."""
        wire: dict[str, Any] = {"code": self.code, "name": self.name, "message": self.message}
        if self.data is not None:
            wire["data"] = self.data
        return wire


def error_from_wire(wire: dict[str, Any]) -> ControlError:
    """Make the error of a response raisable; whatever is missing or mistyped is replaced, never refused."""
    name, message, data = wire.get("name"), wire.get("message"), wire.get("data")
    return ControlError(
        name if isinstance(name, str) else "failed",
        message if isinstance(message, str) else "the daemon gave no reason",
        data if isinstance(data, dict) else None,
    )
