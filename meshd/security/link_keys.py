# SPDX-License-Identifier: Apache-2.0
"""The link-key file: one shared key for each epoch, from which radio links derive theirs (DESIGN section 5).

Text of a few lines, so that it can be checked by eye and moved by hand. What seals datagrams with it comes with the
fountain convergence layer; that the file is mode 0600 is checked by whoever reads it.
"""

import re
from collections.abc import Mapping
from typing import Final

from meshd.base.errors import SettingsError

LINK_KEY_BYTES: Final = 32
EPOCHS_MAX: Final = 16
"""The running epoch, the next, and some old ones that only carry re-key bundles."""
LINK_KEY_FILE_MAX_BYTES: Final = 4096

_HEADER: Final = "meshd-link-keys 1"
_LINE: Final = re.compile(r"epoch ([1-9][0-9]{0,8}) ([0-9a-f]{64})")


def pack_link_keys(keys: Mapping[int, bytes]) -> bytes:
    """The file's content; epochs count from 1."""
    assert keys
    assert len(keys) <= EPOCHS_MAX
    assert all(len(key) == LINK_KEY_BYTES for key in keys.values())
    lines = [_HEADER, *(f"epoch {epoch} {keys[epoch].hex()}" for epoch in sorted(keys))]
    return ("\n".join(lines) + "\n").encode()


def parse_link_keys_untrusted(data: bytes, name: str) -> dict[int, bytes]:
    """Key by epoch. Errors: SettingsError, which never shows a key; `name` is what the file is called in it."""
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name} is no link-key file: it is not ASCII text") from error
    if len(data) > LINK_KEY_FILE_MAX_BYTES or not lines or lines[0] != _HEADER:
        raise SettingsError(f"{name} is no link-key file: its first line is not {_HEADER!r}")
    keys: dict[int, bytes] = {}
    for number, line in enumerate(lines[1:], 2):
        match = _LINE.fullmatch(line)
        if match is None or int(match[1]) in keys:
            raise SettingsError(f"{name}:{number}: write 'epoch NUMBER' and 64 hexadecimal digits, each epoch once")
        keys[int(match[1])] = bytes.fromhex(match[2])
    if not 1 <= len(keys) <= EPOCHS_MAX:
        raise SettingsError(f"{name} has {len(keys)} keys: 1 to {EPOCHS_MAX} are possible")
    return keys
