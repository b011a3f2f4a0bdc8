# SPDX-License-Identifier: Apache-2.0
"""Named limits that more than one package needs. Limits of one package alone stand on top of its own modules."""

from typing import Final

INLINE_SIZE_MAX_BYTES: Final = 16 * 1024 * 1024
"""A bundle up to this is held in memory as a whole; a larger one passes through the store in pieces."""

BUNDLE_SIZE_MAX_BYTES: Final = 8 * 1024 * 1024 * 1024
"""A bundle above this is refused."""

PIECE_SIZE_BYTES: Final = 1024 * 1024
"""About so much of a bundle above INLINE_SIZE_MAX_BYTES is in hand at a time."""

FRONT_SIZE_MAX_BYTES: Final = 64 * 1024
"""What comes before the payload of such a bundle has to fit in this."""

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
