# SPDX-License-Identifier: Apache-2.0
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.eid import NULL_EID, Eid, parse_eid
from meshd.bundle.errors import BundleError, EidError
from meshd.bundle.record import BundleId, bundle_id_text, bundle_ref, parse_bundle_id_text

INBOX = parse_eid("dtn://dpop1/inbox")
UINT64 = st.integers(0, (1 << 64) - 1)
SOURCES = st.sampled_from([INBOX, parse_eid("ipn:977000.1.1"), parse_eid("dtn://a/x@1.2+3-4~ff"), NULL_EID])


@pytest.mark.parametrize(
    ("bundle_id", "text"),
    [
        (BundleId(INBOX, 820454400123, 0), "dtn://dpop1/inbox@820454400123.0"),
        (BundleId(INBOX, 0, 5, 100, 50), "dtn://dpop1/inbox@0.5+100-50"),
        (BundleId(NULL_EID, 1, 2, digest=b"\x01\xff"), "dtn:none@1.2~01ff"),
    ],
)
def test_text_form(bundle_id: BundleId, text: str) -> None:
    assert bundle_id_text(bundle_id) == text
    assert parse_bundle_id_text(text) == bundle_id
    assert bundle_ref(bundle_id) == hashlib.sha256(text.encode()).hexdigest()[:12]


@given(SOURCES, UINT64, UINT64, st.one_of(st.none(), st.tuples(UINT64, UINT64)), st.binary(max_size=16))
def test_round_trip(source: Eid, time_ms: int, sequence: int, fragment: tuple[int, int] | None, digest: bytes) -> None:
    bundle_id = BundleId(source, time_ms, sequence, *(fragment or (-1, -1)), digest)
    assert parse_bundle_id_text(bundle_id_text(bundle_id)) == bundle_id


@pytest.mark.parametrize(
    "text", ["", "dtn://a/b", "dtn://a/b@1", "dtn://a/b@1.x", "dtn://a/b@1.2+3", "@1.2", "dtn://a/b@1.2~f", "a@-1.2"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(BundleError) as caught:
        parse_bundle_id_text(text)
    assert caught.value.reason == "bundle-id"


def test_a_wrong_source_is_named() -> None:
    with pytest.raises(EidError, match="lacks the slash"):
        parse_bundle_id_text("dtn://dpop1@1.2")
