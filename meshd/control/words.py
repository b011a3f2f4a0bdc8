# SPDX-License-Identifier: Apache-2.0
"""Words and sizes of the control protocol that clients need without its table of methods: an order must not wait for
that to be imported.
"""

from typing import Final

from meshd.base.limits import PART_SIZE_BYTES

PRECEDENCE_NAMES: Final = ("OVERRIDE", "FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE", "DEFERRED")
WAIT_STATES: Final = ("forwarded", "delivered")
DEFAULT_ENDPOINT: Final = "inbox"
AUDIT_LISTED_MAX: Final = 500
STREAM_TIERS: Final = ("auto", "key-frames", "metadata")
DATA_SIZE_MAX_BYTES: Final = PART_SIZE_BYTES
"""Most bytes of a message that one request or response carries."""
