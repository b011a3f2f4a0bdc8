# SPDX-License-Identifier: Apache-2.0
"""Who this node is towards others: the [tls] files, read at the start and at every reload."""

from pathlib import Path
from typing import Final

from meshd.base.errors import SettingsError
from meshd.bearer.tls import TlsIdentity
from meshd.daemon.time_floor import TimeFloor
from meshd.settings.configuration import Configuration
from meshd.settings.private_file import read_private

KEY_FILE_MAX_BYTES: Final = 64 * 1024


def load_identity(configuration: Configuration, floor: TimeFloor) -> TlsIdentity | None:
    """None: no files are configured. Blocks. Errors: SettingsError names the file and what is wrong with it."""
    settings = configuration.tls
    if settings is None:
        return None
    read_private(Path(settings.key), KEY_FILE_MAX_BYTES)
    try:
        return TlsIdentity(settings, configuration.node.id, floor.now, floor.host_now)
    except SettingsError as error:
        raise SettingsError(f"[tls]: {error}") from error
