# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the store beyond the plain `StoreError` of meshd.base.errors."""

from meshd.base.errors import StoreError


class StoreFullError(StoreError):
    """The disk has no room for more bundles; deletions still go through and bring the store back by themselves."""
