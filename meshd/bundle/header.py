# SPDX-License-Identifier: Apache-2.0
"""What one look at a received bundle yields: all that dispatching and forwarding need, and where its parts lie."""

import msgspec

from meshd.bundle.blocks import BundleFlag
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, Part


class BundleHeader(msgspec.Struct, frozen=True, gc=False):
    """A well-formed bundle whose CRCs are right, without its bytes. Made by `scan_untrusted`; offsets are into its
    data.
    """

    id: BundleId
    destination: Eid
    report_to: Eid
    flags: int
    """Bundle processing control flags, unknown ones included."""
    lifetime_ms: int
    primary_crc_type: int
    total_adu_bytes: int
    """0 when not a fragment."""
    age_ms: int | None
    """None without a bundle age block; always there when the creation time is 0."""
    hop_limit: int
    """0 without a hop count block."""
    hop_count: int
    previous_node: Eid | None
    precedence: int
    """0 DEFERRED to 5 OVERRIDE; ROUTINE without the block."""
    part: Part | None
    must_delete: bool
    """A block of a type unknown here asks for the bundle's deletion (RFC 9171 section 5.6 step 4)."""
    must_report: bool
    """Such a block asks for a status report `block unsupported`."""
    extensions_offset: int
    """End of the primary block, start of the first extension block."""
    payload_block_offset: int
    """End of the last extension block, start of the payload block."""
    payload_offset: int
    payload_size: int
    """Bytes of the payload block's data."""

    @property
    def source(self) -> Eid:
        """The source node ID (an endpoint of it, or the null endpoint)."""
        return self.id.source

    @property
    def is_fragment(self) -> bool:
        """True when the payload is an extent of a larger ADU."""
        return bool(self.flags & BundleFlag.IS_FRAGMENT)

    @property
    def is_admin_record(self) -> bool:
        """True when the payload is an administrative record (RFC 9171 section 6.1)."""
        return bool(self.flags & BundleFlag.IS_ADMIN_RECORD)
