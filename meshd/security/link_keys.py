# SPDX-License-Identifier: Apache-2.0
"""The link-key file: one shared key for each epoch, from which radio links derive theirs (DESIGN section 5).

Text of a few lines, so that it can be checked by eye and moved by hand. That the file is mode 0600 is checked by
whoever reads it.

A key is rolled in steps, so that nothing is lost. The new epoch is added and the file is given to every node, which
then accepts it. Then it is made the current one, and each node sends under it from the moment that it reads the file.
Every node accepts the epochs beside the current one, hence nodes may take one step in any order. Last the old ones go.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meshd.base.errors import SettingsError

LINK_KEY_BYTES: Final = 32
EPOCHS_MAX: Final = 16
"""The running epoch, the next, and some old ones that only carry re-key bundles."""
EPOCHS_KEPT: Final = 4
"""Adding one drops older ones than these."""
LINK_KEY_FILE_MAX_BYTES: Final = 4096

_HEADER: Final = "meshd-link-keys 1"
_KEY: Final = re.compile(r"epoch ([1-9][0-9]{0,8}) ([0-9a-f]{64})")
_CURRENT: Final = re.compile(r"current ([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class LinkKeys:
    """Key by epoch, and the epoch under which a node sends. Epochs count from 1; there is at least the current one."""

    keys: Mapping[int, bytes]
    current: int

    def __post_init__(self) -> None:
        assert self.current in self.keys
        assert len(self.keys) <= EPOCHS_MAX
        assert all(len(key) == LINK_KEY_BYTES for key in self.keys.values())

    def __repr__(self) -> str:
        """Without the keys."""
        return f"LinkKeys(epochs {sorted(self.keys)}, current {self.current})"

    @property
    def newest(self) -> int:
        """The last epoch there is."""
        return max(self.keys)

    @property
    def previous(self) -> int:
        """The epoch before the current one; the current one where there is none."""
        return max((epoch for epoch in self.keys if epoch < self.current), default=self.current)

    def is_old(self, epoch: int) -> bool:
        """Neither current, nor before or after it: what comes under it may only be re-key bundles."""
        return epoch < self.previous

    def add(self, key: bytes) -> "LinkKeys":
        """The first step of a roll: a further epoch, which nobody sends under yet."""
        assert self.newest == self.current, "the last one is not in use yet"
        kept = sorted(self.keys)[-EPOCHS_KEPT + 1 :]
        return LinkKeys({epoch: self.keys[epoch] for epoch in kept} | {self.newest + 1: key}, self.current)

    def use_newest(self) -> "LinkKeys":
        """The second step of a roll."""
        return LinkKeys(self.keys, self.newest)

    def drop_old(self) -> "LinkKeys":
        """The last step: what is sealed under earlier epochs is accepted no more."""
        return LinkKeys({epoch: key for epoch, key in self.keys.items() if epoch >= self.current}, self.current)


def pack_link_keys(keys: LinkKeys) -> bytes:
    """The file's content."""
    lines = [_HEADER, f"current {keys.current}"]
    lines += [f"epoch {epoch} {keys.keys[epoch].hex()}" for epoch in sorted(keys.keys)]
    return ("\n".join(lines) + "\n").encode()


def parse_link_keys_untrusted(data: bytes, name: str) -> LinkKeys:
    """What a link-key file says; `current` may be missing where there is one epoch.

    Errors: SettingsError, which never shows a key; `name` is what the file is called in it.
    """
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name} is no link-key file: it is not ASCII text") from error
    if len(data) > LINK_KEY_FILE_MAX_BYTES or not lines or lines[0] != _HEADER:
        raise SettingsError(f"{name} is no link-key file: its first line is not {_HEADER!r}")
    keys: dict[int, bytes] = {}
    current: int | None = None
    for number, line in enumerate(lines[1:], 2):
        if current is None and (marker := _CURRENT.fullmatch(line)):
            current = int(marker[1])
            continue
        match = _KEY.fullmatch(line)
        if match is None or int(match[1]) in keys:
            raise SettingsError(f"{name}:{number}: write 'epoch NUMBER' and 64 hexadecimal digits, each epoch once")
        keys[int(match[1])] = bytes.fromhex(match[2])
    if not 1 <= len(keys) <= EPOCHS_MAX:
        raise SettingsError(f"{name} has {len(keys)} keys: 1 to {EPOCHS_MAX} are possible")
    return LinkKeys(keys, _current_of(keys, current, name))


def _current_of(keys: Mapping[int, bytes], current: int | None, name: str) -> int:
    if current is None and len(keys) == 1:
        return min(keys)
    if current is None or current not in keys:
        raise SettingsError(f"{name} does not say which of its epochs is in use: write 'current NUMBER'")
    return current
