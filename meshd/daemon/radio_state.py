# SPDX-License-Identifier: Apache-2.0
"""What the node's radio links share: one boot number for each start, replay marks; and the [security] files."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from meshd.bundle.eid import Eid
from meshd.daemon.link_state import LinkState
from meshd.security.boot_number import DurableBootNumber
from meshd.security.link_files import LinkFiles
from meshd.security.replay_window import Mark
from meshd.security.signing_peers import SigningFiles
from meshd.settings.configuration import Configuration
from meshd.settings.link_files import read_link_files, read_signing_files


class RadioState:
    """Of one daemon, from start to end. Calls block, and may come from several threads."""

    def __init__(self, directory: Path, utc_s: Callable[[], int | None]) -> None:
        """`utc_s` is the host's clock in Unix seconds; None where it is not to be trusted."""
        self._files = LinkState(directory)
        self._utc_s = utc_s
        self._lock = threading.Lock()
        self._boot: DurableBootNumber | None = None

    def take_boot_number(self) -> DurableBootNumber:
        """The number of this start. Errors: BootNumberError, SettingsError, OSError: nothing may be sent."""
        with self._lock:
            if self._boot is None:
                self._boot = self._files.take_boot_number(self._utc_s())
            return self._boot

    def read_marks(self, bearer: str) -> dict[Eid, Mark]:
        """As saved last. Errors: SettingsError, OSError."""
        return self._files.read_marks(bearer)

    def write_marks(self, bearer: str, marks: Mapping[Eid, Mark]) -> None:
        """On return they are on the disk. Errors: OSError."""
        self._files.write_marks(bearer, marks)


def load_link_files(configuration: Configuration) -> LinkFiles | None:
    """None: no files are configured. Blocks. Errors: SettingsError names the file and what is wrong with it."""
    settings = configuration.security
    if settings is None:
        return None
    return read_link_files(Path(settings.link_key), Path(settings.link_x25519), Path(settings.link_peers))


def load_signing_files(configuration: Configuration) -> SigningFiles | None:
    """None: no files are configured, or advertisements are switched off. Blocks. Errors: SettingsError."""
    settings = configuration.signing
    if settings is None or not configuration.routing.advertise:
        return None
    files = read_signing_files(Path(settings.key), Path(settings.peers))
    files.check(configuration.node.id)
    return files


def why_not_signing(configuration: Configuration) -> str:
    """Why there are no such files."""
    if not configuration.routing.advertise:
        return "[routing] advertise = false"
    return "there are no signing keys: add signing_key and signing_peers to [security], `meshctl pki` makes them"
