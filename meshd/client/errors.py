# SPDX-License-Identifier: Apache-2.0
"""Errors of the client itself; what the daemon answers with is meshd.control.errors.ControlError."""

from meshd.base.errors import MeshdError


class ClientError(MeshdError):
    """Something between this client and the daemon, or on this client's own side, went wrong."""


class DaemonUnreachable(ClientError):
    """No daemon answers at the socket, or the session broke. What was confirmed before stays so."""


class ReplyTimeout(ClientError):
    """The daemon is there and did not answer in time. Whether it did what was asked is unknown."""


class SizeMismatch(ClientError):
    """A file or message is not as long as it was said to be."""
