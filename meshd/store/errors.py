# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the store beyond the plain `StoreError` of meshd.base.errors, and how a disk's refusals are
told: what failed, the errno by name and in words, and what to do about it.
"""

import errno
from typing import Final

from meshd.base.errors import StoreError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_REMEDIES: Final = {
    errno.EROFS: "the file system is mounted read-only: remount it writable, then new bundles are taken again",
    errno.EACCES: "the daemon's user has to own the store's directory and everything in it",
    errno.EPERM: "the daemon's user has to own the store's directory and everything in it",
    errno.EMFILE: "too many files are open: raise the limit of open files",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "raise the quota of the daemon's user, or free some space",
}


class StoreFullError(StoreError):
    """The disk has no room for more bundles; deletions still go through and bring the store back by themselves."""


def is_full(error: OSError) -> bool:
    """True when there is no room, which passes by itself."""
    return error.errno in _FULL


def reason(error: OSError) -> str:
    """The errno by name and in words."""
    return f"{errno.errorcode.get(error.errno or 0, 'error')} ({error.strerror})"


def remedy(error: OSError, otherwise: str = "check the disk") -> str:
    """What the operator can do."""
    return _REMEDIES.get(error.errno or 0, otherwise)


def store_error(what: str, error: OSError) -> StoreError:
    """`what` failed for this reason."""
    kind = StoreFullError if is_full(error) else StoreError
    return kind(f"{what}: {reason(error)}; {remedy(error)}")
