# SPDX-License-Identifier: Apache-2.0
"""Boot numbers: higher than every one before, or none at all."""

import random

import pytest

from meshd.base.errors import SettingsError
from meshd.security.boot_number import (
    BOOT_NUMBER_MAX,
    CLOCK_FLOOR_S,
    BootNumberError,
    choose_boot_number,
    pack_boot_number,
    parse_boot_number_untrusted,
)

NOW_S = CLOCK_FLOOR_S + 1_000_000


@pytest.mark.parametrize(
    ("saved", "utc_s", "number"),
    [
        (None, NOW_S, NOW_S),
        (5, NOW_S, NOW_S),
        (NOW_S, NOW_S, NOW_S + 1),
        (NOW_S + 1000, NOW_S, NOW_S + 1001),  # the clock jumped back
        (NOW_S, None, NOW_S + 1),
        (NOW_S, 0, NOW_S + 1),  # a clock that was never set
        (CLOCK_FLOOR_S, CLOCK_FLOOR_S - 1, CLOCK_FLOOR_S + 1),
    ],
)
def test_the_number_is_above_the_saved_one_and_not_below_the_clock(
    saved: int | None, utc_s: int | None, number: int
) -> None:
    assert choose_boot_number(saved, utc_s) == number


@pytest.mark.parametrize("utc_s", [None, 0, CLOCK_FLOOR_S - 1])
def test_state_and_clock_lost_is_silence(utc_s: int | None) -> None:
    with pytest.raises(BootNumberError, match=r"set the clock, or put link\.boot"):
        choose_boot_number(None, utc_s)


def test_the_last_number_is_the_last() -> None:
    assert choose_boot_number(BOOT_NUMBER_MAX - 1, NOW_S) == BOOT_NUMBER_MAX
    with pytest.raises(BootNumberError, match="out of range"):
        choose_boot_number(BOOT_NUMBER_MAX, NOW_S)


@pytest.mark.parametrize("number", [1, NOW_S, BOOT_NUMBER_MAX])
def test_a_number_survives_its_file(number: int) -> None:
    assert parse_boot_number_untrusted(pack_boot_number(number), "boot") == number


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"meshd-boot 1\nboot 0\n", b"meshd-boot 1\nboot 5", b"meshd-boot 1\nboot 4294967296\n"]
)
def test_a_damaged_file_is_not_a_lost_one(data: bytes) -> None:
    with pytest.raises(SettingsError, match="boot holds no boot number"):
        parse_boot_number_untrusted(data, "boot")


@pytest.mark.parametrize("seed", range(20))
def test_no_number_comes_twice_whatever_happens_to_disk_or_clock(seed: int) -> None:
    """Kills before and after the save, lost and restored disks with a clock that is right, clocks that jump back."""
    rng = random.Random(seed)
    used: set[int] = set()
    disks: list[int | None] = [None]
    disk, is_old_disk = disks[0], True
    true_s = NOW_S
    for _ in range(500):
        true_s += rng.randint(2, 1000)
        match rng.randrange(4):
            case 0:  # an old disk, or none; the clock is right
                disk, clock, is_old_disk = rng.choice(disks), true_s, True
            case 1 if not is_old_disk:  # the clock is behind or not set
                clock = rng.choice((0, true_s - rng.randint(1, 100_000)))
            case _:
                clock = true_s
        number = choose_boot_number(disk, clock)
        if rng.random() < 0.3:
            continue  # killed before the save: nothing was sent
        disk, is_old_disk = number, False
        disks.append(disk)
        assert number not in used
        used.add(number)
    assert len(used) > 200
