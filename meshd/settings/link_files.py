# SPDX-License-Identifier: Apache-2.0
"""The files that radio links are keyed with and advertisements are signed with, as `meshctl pki issue` makes them: read
and checked, secrets refused when others may read them.

`link.peers` and `signing.peers` hold public keys: they may be readable by all, but not writable by others, since who
can add a key there can acknowledge or sign in a node's name.
"""

import os
import stat
from pathlib import Path
from typing import Final

from meshd.base.errors import SettingsError
from meshd.security.link_files import LinkFiles
from meshd.security.link_keys import LINK_KEY_FILE_MAX_BYTES, parse_link_keys_untrusted
from meshd.security.link_peers import (
    LINK_PRIVATE_FILE_MAX_BYTES,
    link_private_key_from_pem,
    parse_link_peers_untrusted,
)
from meshd.security.member_keys import MEMBER_KEYS_FILE_MAX_BYTES
from meshd.security.signing_peers import (
    SIGNING_KEY_FILE_MAX_BYTES,
    SigningFiles,
    parse_signing_peers_untrusted,
    signing_key_from_pem,
)
from meshd.settings.private_file import read_private

_WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH


def read_link_files(keys: Path, private_key: Path, peers: Path) -> LinkFiles:
    """Errors: SettingsError: one of them is not there, open to others, or damaged."""
    return LinkFiles(
        parse_link_keys_untrusted(read_private(keys, LINK_KEY_FILE_MAX_BYTES), str(keys)),
        link_private_key_from_pem(read_private(private_key, LINK_PRIVATE_FILE_MAX_BYTES), str(private_key)),
        parse_link_peers_untrusted(_read_public(peers, MEMBER_KEYS_FILE_MAX_BYTES), str(peers)),
    )


def read_signing_files(key: Path, peers: Path) -> SigningFiles:
    """Errors: SettingsError: one of them is not there, open to others, or damaged."""
    return SigningFiles(
        signing_key_from_pem(read_private(key, SIGNING_KEY_FILE_MAX_BYTES), str(key)),
        parse_signing_peers_untrusted(_read_public(peers, MEMBER_KEYS_FILE_MAX_BYTES), str(peers)),
    )


def _read_public(path: Path, size_max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(size_max_bytes + 1)
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}") from error
    if stat.S_IMODE(status.st_mode) & _WRITABLE:
        raise SettingsError(f"{path} has mode {stat.S_IMODE(status.st_mode):04o}: others may write it; chmod go-w it")
    if status.st_uid not in (0, os.geteuid()):
        raise SettingsError(f"{path} belongs to user {status.st_uid}: chown it to the user that meshd runs as")
    return data
