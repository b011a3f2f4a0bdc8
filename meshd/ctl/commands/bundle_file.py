# SPDX-License-Identifier: Apache-2.0
"""Reading the files that `meshctl bundle` works on, `-` being standard input; bounded."""

import sys
from typing import BinaryIO, Final

from meshd.client.errors import ClientError

FILE_MAX_BYTES: Final = 256 * 1024 * 1024
STANDARD_STREAM: Final = "-"


def read_bundle_file(name: str) -> bytes:
    """The bytes of a file.

    Errors:
        ClientError: it is larger than any bundle.
        OSError: it can't be read.
    """
    if name == STANDARD_STREAM:
        return _read_bounded(sys.stdin.buffer, "standard input")
    with open(name, "rb") as file:
        return _read_bounded(file, name)


def _read_bounded(file: BinaryIO, name: str) -> bytes:
    data = file.read(FILE_MAX_BYTES + 1)
    if len(data) > FILE_MAX_BYTES:
        raise ClientError(f"{name} is above {FILE_MAX_BYTES} bytes: too large for a bundle")
    return data
