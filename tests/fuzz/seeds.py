# SPDX-License-Identifier: Apache-2.0
"""Where the committed corpus begins: the test vectors, and a word list of what stands in bundles.

`python -m tests.fuzz.make_corpus` writes what the targets' `seeds` return into tests/fuzz/corpus.
"""

from pathlib import Path
from typing import Final

from meshd.bundle.admin_record import Assertion, ReportReason, StatusReport, encode_status_report
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId

VECTORS: Final = Path(__file__).resolve().parent.parent / "vectors"
SEED_MAX_BYTES: Final = 1024


def read_hex(path: Path) -> bytes:
    """The bytes of a vector file: hexadecimal digits, and comments from `#` on."""
    lines = path.read_text().splitlines()
    return bytes.fromhex("".join(line.split("#")[0] for line in lines).replace(" ", ""))


def bundle_seeds(*folders: str) -> dict[str, bytes]:
    """The vectors of bundles of these folders that are of a size worth mutating."""
    vectors = {path.stem: read_hex(path) for folder in folders for path in folder_files(folder)}
    return {name: data for name, data in vectors.items() if len(data) <= SEED_MAX_BYTES}


def folder_files(folder: str) -> list[Path]:
    """The vector files of a folder of tests/vectors, in order."""
    return sorted((VECTORS / folder).glob("*.hex"))


def bundle_dictionary() -> list[bytes]:
    """Heads of blocks, EIDs and lengths that a mutation may put in."""
    blocks = [bytes.fromhex(f"85{kind}0200") + b"\x00" for kind in ("06", "07", "0a", "18c1", "18ca", "0b", "0c")]
    eids = [bytes.fromhex("820100"), bytes.fromhex("8202820501"), bytes.fromhex("820265") + b"//a/b"]
    numbers = [bytes.fromhex(word) for word in ("1bffffffffffffffff", "1affffffff", "19ffff", "18ff", "9f", "ff", "5f")]
    return [*blocks, *eids, *numbers, bytes.fromhex("8601010002"), bytes.fromhex("8501010000"), b"\x82\x1b\0\0"]


def admin_record_seeds() -> dict[str, bytes]:
    """Status reports of all forms."""
    subject = BundleId(parse_eid("dtn://dpop1/inbox"), 820_454_400_123, 7)
    fragment = BundleId(parse_eid("ipn:5.7"), 0, 1 << 40, 1000, 500)
    yes, timed = Assertion(True), Assertion(True, 820_454_400_500)
    reports = {
        "delivered": StatusReport(subject, delivered=yes),
        "timed": StatusReport(subject, received=timed, forwarded=timed, delivered=timed, deleted=timed, reason=1),
        "fragment": StatusReport(fragment, deleted=yes, reason=ReportReason.DEPLETED_STORAGE),
    }
    return {name: encode_status_report(report) for name, report in reports.items()}


def segment(flags: int, transfer_id: int, data: bytes, items: bytes = b"") -> bytes:
    """An XFER_SEGMENT (RFC 9174 section 5.2.2); `items` are the extension items of a first one."""
    start = len(items).to_bytes(4, "big") + items if flags & 2 else b""
    return bytes((1, flags)) + transfer_id.to_bytes(8, "big") + start + len(data).to_bytes(8, "big") + data
