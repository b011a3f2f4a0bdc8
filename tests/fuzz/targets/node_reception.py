# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: hostile bundles at a whole node: nothing raises, the store can keep what it is told, every transfer is
answered exactly once.

The input is bundles (their CRCs are put right), each behind two bytes: the length, and in the highest bit the link.
"""

from typing import Final

from meshd.bundle.admin_record import Assertion, StatusReport, encode_status_report
from meshd.bundle.blocks import BlockFlag, BundleFlag
from meshd.bundle.codec import build
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.fragment import fragment
from meshd.bundle.record import Part
from meshd.bundle.scan import scan_untrusted
from tests.fuzz.crc_repair import with_right_crcs
from tests.fuzz.node_run import NodeRun
from tests.fuzz.seeds import bundle_dictionary, bundle_seeds
from tests.unit.bundle.bundle_samples import bundle_of, extension
from tests.unit.node.playbook import DPOP2, HOME_INBOX, HOUR_MS, INBOX, LAN, NODE, SAT, UTC_OFFSET_MS

BUNDLES_MAX: Final = 12
_LENGTH_MASK: Final = 0x7FFF

dictionary = bundle_dictionary


def check(data: bytes) -> None:
    """One input."""
    run = NodeRun()
    pos = 0
    transfers = 0
    while pos + 2 <= len(data) and transfers < BUNDLES_MAX:
        word = int.from_bytes(data[pos : pos + 2], "big")
        size = word & _LENGTH_MASK
        bundle = with_right_crcs(data[pos + 2 : pos + 2 + size])
        run.receive(transfers, bundle, SAT if word > _LENGTH_MASK else LAN)
        transfers += 1
        pos += 2 + size
    run.let_time_pass()
    assert all(run.answers[transfer] == 1 for transfer in range(transfers)), "a transfer was not answered just once"


def _frame(*bundles: bytes) -> bytes:
    return b"".join(len(bundle).to_bytes(2, "big") + bundle for bundle in bundles)


def _bundle(destination: Eid, payload: bytes = b"payload", flags: int = 0, part: Part | None = None) -> bytes:
    source, time_ms = parse_eid("dtn://dpop2/inbox"), UTC_OFFSET_MS + 1_000_500
    return build(source, destination, DPOP2, flags, time_ms, 1, HOUR_MS, payload, part=part)


def seeds() -> dict[str, bytes]:
    """Bundles for this node, for others, for the echo service, in parts, in fragments, and reports."""
    here, onward = _bundle(INBOX), _bundle(HOME_INBOX)
    long = _bundle(INBOX, bytes(300))
    pieces = fragment(long, scan_untrusted(long), 200)
    report = encode_status_report(StatusReport(scan_untrusted(onward).id, delivered=Assertion(True)))
    all_reports = 0x74040
    part = _bundle(INBOX, b"part one", part=Part(UTC_OFFSET_MS + 1_000_500, 1, 0, 0, False))
    unknown = [extension(222, b"x", number, flags) for number, flags in enumerate(BlockFlag, start=2)]
    frames = {
        "here": _frame(here, here),
        "onward": _frame(onward, onward),
        "echo": _frame(_bundle(parse_eid("dtn://dpop1/echo"))),
        "fragments": _frame(*pieces),
        "fragments_and_whole": _frame(pieces[0], long, *pieces[1:]),
        "report": _frame(_bundle(NODE, report, flags=int(BundleFlag.IS_ADMIN_RECORD))),
        "reports_wanted": _frame(_bundle(HOME_INBOX, flags=all_reports), _bundle(INBOX, flags=all_reports)),
        "part": _frame(part),
        "unknown_blocks": _frame(bundle_of(*unknown, destination=HOME_INBOX)),
        "noise": _frame(b"noise", b""),
    }
    return frames | {f"vector_{name}": _frame(data) for name, data in bundle_seeds("unusual").items()}
