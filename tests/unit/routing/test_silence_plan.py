# SPDX-License-Identifier: Apache-2.0
"""A plan of emission control in an advertisement: there and back, and what is none."""

import msgspec
import pytest

from meshd.bundle.eid import parse_eid
from meshd.routing.advertisement import Advertisement, decode_body_untrusted, encode_body
from meshd.routing.announcer import VALID_S, valid_s
from meshd.routing.silence_plan import MARGIN_MAX_MS, ROWS_MAX, PlanRow, SilencePlan
from meshd.security.advertisement import AdvertisementError

NODE = parse_eid("dtn://dpop1/")
PLAN = SilencePlan(True, 2000, (PlanRow(False, 0, 300, 3600), PlanRow(True, 820_000_000, 7200)))


def body_with(plan: object) -> bytes:
    said = msgspec.msgpack.decode(encode_body(Advertisement(820_000_000, 3900, ())))
    return msgspec.msgpack.encode([*said[:-1], plan])


def test_there_and_back() -> None:
    said = Advertisement(820_000_000, 3900, (), plan=PLAN)
    assert decode_body_untrusted(encode_body(said), NODE) == said
    assert len(encode_body(said)) < 60


def test_who_has_none_says_so_and_who_does_not_know_it_leaves_it_out() -> None:
    assert decode_body_untrusted(body_with(None), NODE).plan is None
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(body_with(None))[:-1])
    assert decode_body_untrusted(older, NODE).plan is None


@pytest.mark.parametrize(
    "plan",
    [
        [True, 2000, []],
        [True, 2000, [[False, 0, 300, 3600]] * (ROWS_MAX + 1)],
        [True, MARGIN_MAX_MS + 1, [[False, 0, 300, 3600]]],
        [True, 2000, [[False, 0, 300, 59]]],
        [True, 2000, [[False, 0, 3600, 3600]]],
        [True, 2000, [[False, 0, 0, 3600]]],
        [True, 2000, [[False, -1, 300, 3600]]],
        [1, 2000, [[False, 0, 300, 3600]]],
        [True, 2000, [[False, 0, 300, 3600, 1]]],
        "nonsense",
    ],
)
def test_what_is_none_is_refused(plan: object) -> None:
    with pytest.raises(AdvertisementError):
        decode_body_untrusted(body_with(plan), NODE)


def test_an_advertisement_outlives_the_next_silence() -> None:
    assert valid_s((), 0.0) == VALID_S
    assert valid_s((), 7200.0) == VALID_S + 7200
