# SPDX-License-Identifier: Apache-2.0
"""A token bucket: something may happen so often a second on average, and so often at once after a pause."""


class TokenBucket:
    """Filled at a steady rate up to its size; begins full."""

    def __init__(self, rate_per_s: float, size: int, now: float) -> None:
        """`now` is monotonic seconds, as for `take`."""
        self._rate_per_s = rate_per_s
        self._size = size
        self._tokens = float(size)
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Take one token; False when there is none."""
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._filled_at) * self._rate_per_s)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
