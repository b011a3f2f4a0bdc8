# SPDX-License-Identifier: Apache-2.0
"""Stands in the place of a sealer where a node only listens, so that a mistake can't put anything on the air."""

from meshd.base.errors import LocalProtocolError


class MuteSealer:
    """Seals nothing."""

    boot = 0
    next_counter = 1

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def seal(self, plaintext: bytes) -> bytes:
        """Errors: LocalProtocolError, always."""
        del plaintext
        raise LocalProtocolError("this node only listens on this bearer")

    def is_ahead(self, boot: int, counter: int) -> bool:
        """Nothing was ever sent; what others think to have heard of this node is of an earlier start."""
        del boot, counter
        return False
