# SPDX-License-Identifier: Apache-2.0
"""A bundle made visible, for people and scripts, sound or not (`meshctl bundle dump`).

Lenient: shows whatever can be read and lists what is wrong. The reading is that of `primary`, `canonical` and
`extension`; whether a bundle is sound is `scan`'s word, so nothing is called sound here that the daemon would refuse.
"""

from typing import Any, Final

from meshd.bundle.admin_record import (
    Assertion,
    StatusReport,
    UnknownRecord,
    decode_admin_record_untrusted,
    reason_name,
    record_type_name,
)
from meshd.bundle.blocks import BLOCKS_MAX, BlockFlag, BlockType, BundleFlag
from meshd.bundle.canonical import BlockExtent, check_block_crc, read_block
from meshd.bundle.eid import Eid
from meshd.bundle.errors import BundleError
from meshd.bundle.extension import read_value
from meshd.bundle.precedence import Precedence
from meshd.bundle.primary import PRIMARY_START, PrimaryHead, is_crc_right, read_primary_head, read_primary_tail
from meshd.bundle.record import Part, bundle_id_text
from meshd.bundle.scan import scan_untrusted
from meshd.bundle.supersession import Supersession

DUMP_VERSION: Final = 1

_CRC_NAMES: Final = ("none", "crc16", "crc32c")
_BLOCK_NAMES: Final = {
    1: "payload",
    6: "previous_node",
    7: "bundle_age",
    10: "hop_count",
    11: "block_integrity",
    12: "block_confidentiality",
    193: "quality_of_service",
    201: "supersession",
    202: "part",
}
_RECORD_FLAGS: Final = BundleFlag.IS_ADMIN_RECORD | BundleFlag.IS_FRAGMENT
"""A fragment of an administrative record can't be read alone."""

Dump = dict[str, Any]


def dump_untrusted(data: bytes) -> Dump:
    """Everything that can be read of a bundle, as one object fit for JSON. Raises nothing.

    Returns:
        `{"v": 1, "primary": {...} | None, "blocks": [...], "errors": [...]}`. Times are DTN time in ms, sizes bytes,
        flags names in lower case (`bit_N` for an unknown bit). `fragment_offset` and `total_adu_bytes` are None
        unless it is a fragment. A block has `type`, `name` (None if unknown), `number`, `flags`, `crc`, `data_bytes`
        and, by type: `node` (previous node); `age_ms`; `hop_limit`, `hop_count`; `precedence`; `first_time_ms`,
        `first_sequence`, `index`, `offset_bytes`, `is_last` (part);
        `key` in hexadecimal, `sequence`, `tier` (supersession); `status_report` (payload of an administrative
        record). `errors` are sentences, empty for a sound bundle.
    """
    errors: list[str] = []
    dump: Dump = {"v": DUMP_VERSION, "primary": None, "blocks": [], "errors": errors}
    try:
        head, pos = read_primary_head(data)
        dump["primary"], pos = _primary(data, head, pos, errors)
        for _ in range(BLOCKS_MAX + 1):
            block = read_block(data, pos)
            dump["blocks"].append(_block(data, block, head, errors))
            pos = block.end
            if data[pos : pos + 1] in (b"", b"\xff"):
                break
    except BundleError as error:
        errors.append(str(error))
    _add_verdict(data, errors)
    return dump


def _add_verdict(data: bytes, errors: list[str]) -> None:
    """What only the strict parser sees: rules between blocks, trailing bytes, size."""
    try:
        scan_untrusted(data)
    except BundleError as error:
        if str(error) not in errors:
            errors.append(str(error))


def _primary(data: bytes, head: PrimaryHead, pos: int, errors: list[str]) -> tuple[Dump, int]:
    tail = read_primary_tail(data, pos, head)
    if not is_crc_right(data, head.crc_type, PRIMARY_START, tail.crc_offset, tail.end):
        errors.append("the CRC of the primary block is wrong")
    is_fragment = tail.fragment_offset >= 0
    primary = {
        "version": 7,
        "destination": head.destination.uri,
        "source": head.source.uri,
        "report_to": head.report_to.uri,
        "creation_time_ms": tail.time_ms,
        "sequence": tail.sequence,
        "lifetime_ms": tail.lifetime_ms,
        "flags": flag_names(BundleFlag, head.flags),
        "fragment_offset": tail.fragment_offset if is_fragment else None,
        "total_adu_bytes": tail.total_adu_bytes if is_fragment else None,
        "crc": _CRC_NAMES[head.crc_type],
    }
    return primary, tail.end


def flag_names(kind: type[BundleFlag] | type[BlockFlag], flags: int) -> list[str]:
    """The names of the bits set, lowest first; `bit_N` for a bit that has no name."""
    known = {member.value: member.name or "" for member in kind}
    bits = [bit for bit in range(flags.bit_length()) if flags >> bit & 1]
    return [known.get(1 << bit, f"bit_{bit}").lower() for bit in bits]


def _block(data: bytes, block: BlockExtent, head: PrimaryHead, errors: list[str]) -> Dump:
    shown: Dump = {
        "type": block.type,
        "name": _BLOCK_NAMES.get(block.type),
        "number": block.number,
        "flags": flag_names(BlockFlag, block.flags),
        "crc": _CRC_NAMES[block.crc_type],
        "data_bytes": block.data_end - block.data_offset,
    }
    try:
        check_block_crc(data, block)
    except BundleError as error:
        errors.append(str(error))
    try:
        shown.update(_content(data, block, head))
    except BundleError as error:
        errors.append(str(error))
    return shown


def _content(data: bytes, block: BlockExtent, head: PrimaryHead) -> Dump:
    """The decoded fields of a block of a known type."""
    if block.type == BlockType.PAYLOAD:
        if head.flags & _RECORD_FLAGS != BundleFlag.IS_ADMIN_RECORD:
            return {}
        record = decode_admin_record_untrusted(data[block.data_offset : block.data_end])
        if isinstance(record, UnknownRecord):
            return {"admin_record": record_type_name(record.type)}
        return {"status_report": _report(record)}
    value = read_value(data, block)
    match value:
        case Eid():
            return {"node": value.uri}
        case Part():
            return {name: getattr(value, name) for name in value.__struct_fields__}
        case Supersession(key, sequence, tier):
            return {"key": key.hex(), "sequence": sequence, "tier": tier}
        case (hop_limit, hop_count):
            return {"hop_limit": hop_limit, "hop_count": hop_count}
        case int() if block.type == BlockType.BUNDLE_AGE:
            return {"age_ms": value}
        case int():
            return {"precedence": Precedence(value).name}
        case _:
            return {}


def _report(report: StatusReport) -> Dump:
    assertions = ("received", "forwarded", "delivered", "deleted")
    return {
        "subject": bundle_id_text(report.subject),
        "reason": report.reason,
        "reason_text": reason_name(report.reason),
        "asserted": [name for name in assertions if getattr(report, name).is_asserted],
        "times_ms": {name: _time(getattr(report, name)) for name in assertions if getattr(report, name).is_asserted},
    }


def _time(assertion: Assertion) -> int | None:
    return assertion.time_ms


def render_text(dump: Dump) -> str:
    """What `dump_untrusted` returned, as lines for a person."""
    lines = []
    if dump["primary"] is not None:
        lines.append("primary block")
        lines += _field_lines(dump["primary"])
    for block in dump["blocks"]:
        name = (block["name"] or "unknown").replace("_", " ")
        lines.append(f"block {block['number']}: {name} (type {block['type']})")
        lines += _field_lines({key: value for key, value in block.items() if key not in ("type", "name", "number")})
    lines += [f"error: {error}" for error in dump["errors"]]
    return "\n".join(lines) + "\n"


def _field_lines(fields: Dump) -> list[str]:
    lines = []
    for key, value in fields.items():
        if isinstance(value, dict):
            lines += [f"  {key.replace('_', ' ')}", *("  " + line for line in _field_lines(value))]
        elif value is not None:
            shown = (", ".join(value) or "none") if isinstance(value, list) else value
            lines.append(f"  {key.replace('_', ' '):<18} {shown}")
    return lines
