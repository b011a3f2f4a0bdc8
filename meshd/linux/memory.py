# SPDX-License-Identifier: Apache-2.0
"""What the C library does with memory that the process has freed (malloc_trim(3), mallopt(3)).

It keeps what lies between other things; after a start with a million bundles that is a tenth of all. Large pieces go
back to the kernel at once, and come again as pages that have to be cleared and mapped one by one: a seventh of the
time of a bundle of 1 MiB. So a little more of them is kept.
"""

import ctypes
from typing import Final

LARGE_MIN_BYTES: Final = 32 * 1024 * 1024
"""From this size on a piece has a mapping of its own, which goes back when it is freed."""
KEPT_MAX_BYTES: Final = 64 * 1024 * 1024
"""Free memory at the end of the heap that is not given back by itself."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def give_back_memory() -> bool:
    """Takes milliseconds. False where there was nothing to give back, or the C library can't."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))


def keep_freed_memory() -> bool:
    """Have what bundles of up to a few MiB lay in used again. False where the C library has no such wish."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    wishes = ((_M_MMAP_THRESHOLD, LARGE_MIN_BYTES), (_M_TRIM_THRESHOLD, KEPT_MAX_BYTES))
    return mallopt is not None and all(mallopt(*wish) for wish in wishes)
