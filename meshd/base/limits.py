# SPDX-License-Identifier: Apache-2.0
"""Named limits that more than one package needs. Limits of one package alone stand on top of its own modules."""

from typing import Final

BUNDLE_SIZE_MAX_BYTES: Final = 16 * 1024 * 1024
"""A bundle above this is refused: a whole transfer is held in memory once while it arrives."""

PART_SIZE_BYTES: Final = 1024 * 1024
"""A message above this is cut into parts of this size at its source (DESIGN: files are cut into bundles)."""

MESSAGE_SIZE_MAX_BYTES: Final = 1 << 40
"""A message (all parts together) above this is refused."""

EID_SIZE_MAX_BYTES: Final = 1024
"""An endpoint ID's encoding above this is refused."""

LIFETIME_MAX_MS: Final = 366 * 24 * 3600 * 1000
"""A longer lifetime is capped: the duplicate memory has to hold an ID until its bundle's expiry."""

CONTROL_FRAME_MAX_BYTES: Final = 4 * 1024 * 1024
"""A frame of the control protocol above this is refused before it is read."""
