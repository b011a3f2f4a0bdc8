# SPDX-License-Identifier: Apache-2.0
"""The errors that cross a package's border. Each names the thing, the reason and, where there is one, the remedy."""


class MeshdError(Exception):
    """Base of all errors that meshd raises on purpose. Anything else is our own fault and ends the process."""


class LocalProtocolError(MeshdError):
    """We misused one of our own protocol machines: a programming error, never a peer's doing."""


class RemoteProtocolError(MeshdError):
    """A peer broke a protocol: that session ends with this reason, nothing else does."""


class SettingsError(MeshdError):
    """A setting is unknown, of the wrong type or impossible; the message names file, line and key."""


class StoreError(MeshdError):
    """The store can't keep its promise (disk full, I/O error, locked by another daemon)."""


class AuditError(MeshdError):
    """The audit log can't take an entry, or can't be read."""


class GateError(MeshdError):
    """The kernel refused to open or close the emission gate."""
