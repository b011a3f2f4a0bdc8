# SPDX-License-Identifier: Apache-2.0
"""What one look at a received bundle yields: all that dispatching and forwarding need, and where its parts lie."""

import msgspec

from meshd.bundle.blocks import BundleFlag
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, Part
from meshd.bundle.supersession import Supersession


class Flow(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """What a bundle has in common with others of the same source, destination and blocks: one object for all of them,
    as a rule.
    """

    destination: Eid
    source: Eid
    report_to: Eid
    flags: int
    """Bundle processing control flags, unknown ones included."""
    primary_crc_type: int
    hop_limit: int
    """0 without a hop count block."""
    hop_count: int
    previous_node: Eid | None
    precedence: int
    """0 DEFERRED to 5 OVERRIDE; ROUTINE without the block."""
    part: Part | None
    supersession: Supersession | None
    must_delete: bool
    """A block of a type unknown here asks for the bundle's deletion (RFC 9171 section 5.6 step 4)."""
    must_report: bool
    """Such a block asks for a status report `block unsupported`."""
    steady_run: bytes | None
    """The extension blocks as they came; where a bundle age block stands last, up to the age in it. None where these
    bytes are others in each bundle."""


class BundleHeader(msgspec.Struct, frozen=True, gc=False):
    """A well-formed bundle whose CRCs are right, without its bytes. Made by `scan_untrusted`; offsets are into its
    data.
    """

    id: BundleId
    flow: Flow
    lifetime_ms: int
    age_ms: int | None
    """None without a bundle age block; always there when the creation time is 0."""
    total_adu_bytes: int
    """0 when not a fragment."""
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
    def destination(self) -> Eid:
        """Where it goes."""
        return self.flow.destination

    @property
    def report_to(self) -> Eid:
        """Who gets its status reports."""
        return self.flow.report_to

    @property
    def flags(self) -> int:
        """Bundle processing control flags, unknown ones included."""
        return self.flow.flags

    @property
    def primary_crc_type(self) -> int:
        """Of its primary block."""
        return self.flow.primary_crc_type

    @property
    def hop_limit(self) -> int:
        """0 without a hop count block."""
        return self.flow.hop_limit

    @property
    def hop_count(self) -> int:
        """Nodes that have forwarded it, as its block says."""
        return self.flow.hop_count

    @property
    def previous_node(self) -> Eid | None:
        """As its block says."""
        return self.flow.previous_node

    @property
    def precedence(self) -> int:
        """0 DEFERRED to 5 OVERRIDE; ROUTINE without the block."""
        return self.flow.precedence

    @property
    def part(self) -> Part | None:
        """Which piece of a message it carries."""
        return self.flow.part

    @property
    def supersession(self) -> Supersession | None:
        """What it supersedes, and by what it is superseded."""
        return self.flow.supersession

    @property
    def must_delete(self) -> bool:
        """A block of a type unknown here asks for the bundle's deletion."""
        return self.flow.must_delete

    @property
    def must_report(self) -> bool:
        """A block of a type unknown here asks for a status report."""
        return self.flow.must_report

    @property
    def is_fragment(self) -> bool:
        """True when the payload is an extent of a larger ADU."""
        return bool(self.flow.flags & BundleFlag.IS_FRAGMENT)

    @property
    def is_admin_record(self) -> bool:
        """True when the payload is an administrative record (RFC 9171 section 6.1)."""
        return bool(self.flow.flags & BundleFlag.IS_ADMIN_RECORD)
