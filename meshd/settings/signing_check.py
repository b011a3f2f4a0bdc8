# SPDX-License-Identifier: Apache-2.0
"""What must fit together for signatures: the two files of the `[security]` table both or none."""

from typing import Final

from meshd.security.settings import SigningSettings
from meshd.settings.reader import DocumentReader, Row

_FILES: Final = ("signing_key", "signing_peers")


def check_signing(reader: DocumentReader, security: Row) -> None:
    """Note what does not fit."""
    missing = [name for name in _FILES if name in security.values and security.values[name] is None]
    if len(missing) == 1:
        remedy = f"signatures need {' and '.join(_FILES)}: `meshctl pki issue` makes them"
        reader.note(security.path, f"{missing[0]} is missing", remedy)


def make_signing(security: Row) -> SigningSettings | None:
    """None: no files are named."""
    values = security.values
    if values["signing_key"] is None:
        return None
    return SigningSettings(values["signing_key"], values["signing_peers"])
