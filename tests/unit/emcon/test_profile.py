# SPDX-License-Identifier: Apache-2.0
"""What profiles mean for bearers."""

import pytest

from meshd.emcon.profile import (
    STRICTNESS,
    UnknownProfileError,
    boot_postures,
    device_postures,
    find_profile,
    leased_devices,
    profile_postures,
    stricter_of,
    strictest,
)
from meshd.link.settings import Posture
from tests.unit.emcon.emcon_samples import BEARERS, OPEN, PROFILES, RX_ONLY, make_bearer, make_settings


def test_a_bearer_that_is_not_named_gets_the_others_posture() -> None:
    assert profile_postures(PROFILES["los-only"], BEARERS) == {"sat": RX_ONLY, "los": OPEN, "lan": OPEN}


def test_boot_shuts_what_radiates() -> None:
    assert boot_postures(make_settings(), BEARERS) == {"sat": RX_ONLY, "los": RX_ONLY, "lan": OPEN}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Silent", "did you mean 'silent'"),
        ("quiet_radio", "did you mean 'quiet-radio'"),
        ("zzzz", "known are los-only"),
    ],
)
def test_an_unknown_profile_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UnknownProfileError, match=hint):
        find_profile(make_settings(), name)


def test_the_strictest_of_none_is_open() -> None:
    assert strictest([]) is OPEN
    assert strictest([OPEN, RX_ONLY, OPEN]) is RX_ONLY


def test_every_posture_has_its_place_from_open_to_off() -> None:
    assert list(STRICTNESS) == list(Posture)
    assert strictest(Posture) is Posture.OFF
    assert strictest([OPEN, Posture.RESTRICTED]) is Posture.RESTRICTED
    assert strictest([RX_ONLY, Posture.RESTRICTED]) is RX_ONLY


def test_stricter_of_two() -> None:
    assert stricter_of({"a": OPEN, "b": RX_ONLY, "c": OPEN}, {"a": RX_ONLY, "b": OPEN}) == {
        "a": RX_ONLY,
        "b": RX_ONLY,
        "c": OPEN,
    }


def test_a_shared_device_takes_the_strictest_whatever_the_sequence() -> None:
    one, other = make_bearer("one", True, "eth1"), make_bearer("other", False, "eth1")
    postures = {"one": RX_ONLY, "other": OPEN}
    assert device_postures(postures, (one, other)) == {"eth1": RX_ONLY}
    assert device_postures(postures, (other, one)) == {"eth1": RX_ONLY}
    assert leased_devices((one, other)) == {"eth1"}
