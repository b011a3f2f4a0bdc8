# SPDX-License-Identifier: Apache-2.0
"""The wire format of TCPCLv4: contact header, messages, codes (RFC 9174 sections 4.2 to 6.1).

`pack_*` builds a message; `pull_*_untrusted` takes one from a peer's bytes: it returns None while the message is not
complete yet, and raises `SessionFault` for one that can't be right. Whether a message is allowed at this moment is not
known here: that is the session's table. Extension items are in `extensions.py`.
"""

import enum
import struct
from typing import Final, NamedTuple

from meshd.base.errors import RemoteProtocolError
from meshd.base.limits import EID_SIZE_MAX_BYTES
from meshd.base.version import TCPCL_VERSION
from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError
from meshd.cl.tcpclv4.extensions import EXTENSIONS_MAX_BYTES, check_session_extensions_untrusted

MAGIC: Final = b"dtn!"
CAN_TLS: Final = 0x01
"""Contact header flag (section 4.2)."""
CONTACT_BYTES: Final = 6

END: Final = 0x01
START: Final = 0x02
WHOLE: Final = START | END
"""XFER_SEGMENT flags (section 5.2.2) of a transfer that fits one segment."""
REPLY: Final = 0x01
"""SESS_TERM flag (section 6.1)."""


class MessageType(enum.IntEnum):
    """Section 4.5, table 2."""

    XFER_SEGMENT = 1
    XFER_ACK = 2
    XFER_REFUSE = 3
    KEEPALIVE = 4
    SESS_TERM = 5
    MSG_REJECT = 6
    SESS_INIT = 7


class RefuseReason(enum.IntEnum):
    """Why a transfer is refused: section 5.2.4, table 6."""

    UNKNOWN = 0
    COMPLETED = 1
    NO_RESOURCES = 2
    RETRANSMIT = 3
    NOT_ACCEPTABLE = 4
    EXTENSION_FAILURE = 5
    SESSION_TERMINATING = 6


class TermReason(enum.IntEnum):
    """Why a session is terminated: section 6.1, table 9."""

    UNKNOWN = 0
    IDLE_TIMEOUT = 1
    VERSION_MISMATCH = 2
    BUSY = 3
    CONTACT_FAILURE = 4
    RESOURCE_EXHAUSTION = 5


class RejectReason(enum.IntEnum):
    """Why a message is rejected: section 5.1.2, table 4."""

    TYPE_UNKNOWN = 1
    UNSUPPORTED = 2
    UNEXPECTED = 3


class SessionFault(RemoteProtocolError):
    """The peer did what ends a session. `term` is what it is told; None: the connection is just closed."""

    def __init__(
        self,
        text: str,
        term: TermReason | None,
        reject: bytes = b"",
        *,
        is_unwanted: bool = False,
        is_insecure: bool = False,
    ) -> None:
        super().__init__(text)
        self.term = term
        self.reject = reject
        """A packed MSG_REJECT that goes before, or nothing."""
        self.is_unwanted = is_unwanted
        """Nothing is wrong with the peer but who it is."""
        self.is_insecure = is_insecure
        """It has no TLS where it should, or is not who its certificate says."""


SEGMENT_WHOLE: Final = struct.Struct("!BBQIQ")
"""XFER_SEGMENT with START and no extension items: type, flags, transfer ID, items length 0, data length."""
SEGMENT_START: Final = struct.Struct("!BBQI")
SEGMENT_NEXT: Final = struct.Struct("!BBQQ")
ACK: Final = struct.Struct("!BBQQ")
REFUSE: Final = struct.Struct("!BBQ")
_TERM: Final = struct.Struct("!BBB")
_REJECT: Final = struct.Struct("!BBB")
_INIT: Final = struct.Struct("!BHQQH")
_U32: Final = struct.Struct("!I")

CONTACT_HEADER: Final = MAGIC + bytes((TCPCL_VERSION, 0))
CONTACT_HEADER_TLS: Final = MAGIC + bytes((TCPCL_VERSION, CAN_TLS))
KEEPALIVE: Final = bytes((MessageType.KEEPALIVE,))


class SessionInit(NamedTuple):
    """What one side offers (section 4.6)."""

    keepalive_s: int
    segment_mru_bytes: int
    transfer_mru_bytes: int
    node: Eid | None
    """None: the peer does not say who it is (zero-length node ID)."""


def pack_session_init(offer: SessionInit) -> bytes:
    """SESS_INIT without session extension items (section 4.6)."""
    node = offer.node.uri.encode() if offer.node else b""
    head = _INIT.pack(
        MessageType.SESS_INIT, offer.keepalive_s, offer.segment_mru_bytes, offer.transfer_mru_bytes, len(node)
    )
    return head + node + _U32.pack(0)


def pack_session_term(reason: int, *, is_reply: bool) -> bytes:
    """SESS_TERM (section 6.1); a reply repeats the peer's reason code, known or not."""
    return _TERM.pack(MessageType.SESS_TERM, REPLY if is_reply else 0, reason)


def pack_reject(reason: RejectReason, message_type: int) -> bytes:
    """MSG_REJECT (section 5.1.2)."""
    return _REJECT.pack(MessageType.MSG_REJECT, reason, message_type)


def pack_refuse(reason: RefuseReason, transfer_id: int) -> bytes:
    """XFER_REFUSE (section 5.2.4)."""
    return REFUSE.pack(MessageType.XFER_REFUSE, reason, transfer_id)


def pull_contact_header_untrusted(data: bytes) -> bool:
    """True when `data` begins with a whole contact header of our version (section 4.3); False: not whole yet.

    A wrong byte is noticed as soon as it is there. Errors: SessionFault.
    """
    prefix = data[: len(MAGIC)]
    if prefix != MAGIC[: len(prefix)]:
        raise SessionFault(f"the peer does not speak TCPCL: it began with {prefix!r}, not with {MAGIC!r}", None)
    if len(data) > len(MAGIC) and data[4] != TCPCL_VERSION:
        text = f"the peer speaks TCPCL version {data[4]}, this node version {TCPCL_VERSION}"
        raise SessionFault(text, TermReason.VERSION_MISMATCH)
    return len(data) >= CONTACT_BYTES


def pull_session_init_untrusted(data: bytes, pos: int) -> tuple[SessionInit, int] | None:
    """SESS_INIT at `pos` and the position after it (section 4.6). Errors: SessionFault."""
    if len(data) - pos < _INIT.size:
        return None
    _, keepalive_s, segment_mru, transfer_mru, node_bytes = _INIT.unpack_from(data, pos)
    if node_bytes > EID_SIZE_MAX_BYTES:
        text = f"SESS_INIT has a node ID of {node_bytes} bytes, the limit is {EID_SIZE_MAX_BYTES}"
        raise SessionFault(text, TermReason.CONTACT_FAILURE)
    start = pos + _INIT.size
    items = start + node_bytes + _U32.size
    if len(data) < items:
        return None
    (items_bytes,) = _U32.unpack_from(data, items - _U32.size)
    if items_bytes > EXTENSIONS_MAX_BYTES:
        text = f"SESS_INIT has {items_bytes} bytes of extension items, the limit is {EXTENSIONS_MAX_BYTES}"
        raise SessionFault(text, TermReason.CONTACT_FAILURE)
    if len(data) < items + items_bytes:
        return None
    problem = check_session_extensions_untrusted(data[items : items + items_bytes])
    if problem:
        raise SessionFault(problem, TermReason.CONTACT_FAILURE)
    node = _node_untrusted(data[start : start + node_bytes])
    return SessionInit(keepalive_s, segment_mru, transfer_mru, node), items + items_bytes


def _node_untrusted(raw: bytes) -> Eid | None:
    if not raw:
        return None
    try:
        return check_node_id(parse_eid(raw.decode()))
    except (UnicodeDecodeError, EidError) as error:
        raise SessionFault(f"SESS_INIT has an impossible node ID: {error}", TermReason.CONTACT_FAILURE) from error


def pull_session_term(data: bytes, pos: int) -> tuple[int, int] | None:
    """SESS_TERM at `pos`: reason code as it came, position after it (section 6.1)."""
    if len(data) - pos < _TERM.size:
        return None
    _, _, reason = _TERM.unpack_from(data, pos)
    return reason, pos + _TERM.size


def pull_reject(data: bytes, pos: int) -> tuple[int, int, int] | None:
    """MSG_REJECT at `pos`: reason code, rejected message type, position after it (section 5.1.2)."""
    if len(data) - pos < _REJECT.size:
        return None
    _, reason, message_type = _REJECT.unpack_from(data, pos)
    return reason, message_type, pos + _REJECT.size


def pull_refuse(data: bytes, pos: int) -> tuple[RefuseReason, int, int] | None:
    """XFER_REFUSE at `pos`: reason (unknown codes are UNKNOWN), transfer ID, position after it (section 5.2.4)."""
    if len(data) - pos < REFUSE.size:
        return None
    _, reason, transfer_id = REFUSE.unpack_from(data, pos)
    known = RefuseReason(reason) if reason in _REFUSE_REASONS else RefuseReason.UNKNOWN
    return known, transfer_id, pos + REFUSE.size


_REFUSE_REASONS: Final = frozenset(int(reason) for reason in RefuseReason)
