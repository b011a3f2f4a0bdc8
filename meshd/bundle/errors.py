# SPDX-License-Identifier: Apache-2.0
"""What is wrong with bytes or text that claim to be a bundle or a part of one.

One family: whoever calls a function ending in `_untrusted` of this package catches `BundleError` and nothing else.
Each error has a short machine-readable `reason` (for counters, events and refusals) beside its message for people.
"""

from meshd.base.errors import RemoteProtocolError


class BundleError(RemoteProtocolError):
    """These bytes are no well-formed bundle (RFC 9171 section 4).

    Attributes:
        reason: one word or two joined by a hyphen, from a fixed set: `truncated`, `cbor`, `oversize`, `version`, `eid`,
            `flags`, `crc`, `crc-type`, `primary`, `block`, `block-number`, `block-count`, `payload`, `trailing`,
            `age`, `hop-count`, `previous-node`, `precedence`, `part`, `fragment`, `admin-record`, `bundle-id`,
            `trace-report`,
            `supersession`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EidError(BundleError):
    """This text or encoding is no endpoint ID that meshd understands (RFC 9171 section 4.2.5, RFC 9758)."""

    def __init__(self, message: str) -> None:
        super().__init__("eid", message)
