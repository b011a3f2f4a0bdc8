# SPDX-License-Identifier: Apache-2.0
"""Link profiles: strict reading, and the profiles that the lab ships."""

import tomllib
from pathlib import Path

import pytest

from netns_lab.errors import LabError
from netns_lab.link_profile import (
    GilbertElliott,
    LinkProfile,
    RandomLoss,
    TimedBursts,
    load_profile,
    parse_profile,
    profile_to_table,
)
from netns_lab.scenario import PROFILES
from netns_lab.toml_table import TomlTable


def parse(text: str) -> LinkProfile:
    return parse_profile("test", TomlTable(tomllib.loads(text), "test.toml"))


def test_every_key_is_read() -> None:
    profile = parse(
        """
        description = "all of it"
        delay = "15 ms"
        jitter = "5 ms"
        duplicate = "0.5 %"
        corrupt = "0.25 %"
        reorder = "2 %"
        gap = 5
        rate = "500 kbit/s"
        limit = 60
        loss_after_rate = true
        [loss]
        model = "gemodel"
        p = "1 %"
        r = "25 %"
        1-h = "78 %"
        1-k = "0.1 %"
        """
    )
    loss = GilbertElliott(p=0.01, r=0.25, loss_bad=0.78, loss_good=0.001)
    assert profile == LinkProfile("test", "all of it", 0.015, 0.005, loss, 0.005, 0.0025, 0.02, 5, 500_000, 60, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('dealy = "5 ms"', r"test\.toml: key 'dealy': unknown key; did you mean 'delay'\?"),
        ("delay = 5", r"key 'delay': must be a string"),
        ('delay = "5"', r"key 'delay': '5' is not a duration"),
        ('delay = "2 min"\njitter = "3 min"', r"key 'jitter': is above the delay"),
        ('delay = "61 min"', r"key 'delay': is above 3600 s"),
        ('reorder = "2 %"', r"key 'reorder': needs a delay"),
        ("limit = 0", r"key 'limit': must be a whole number from 1"),
        ("limit = true", r"key 'limit': must be a whole number"),
        ('loss = "1 %"', r"key 'loss': must be a table"),
        ('loss = { model = "rando" }', r"key 'loss\.model': unknown model 'rando'; known: random, gemodel, bursts"),
        ('loss = { model = "bursts", share = "10 %" }', r"key 'loss\.mean': and share: a spell needs a duration"),
        ('loss = { model = "bursts", mean = "1 s", share = "100 %" }', r"key 'loss\.mean': and share"),
        ('loss = { model = "random" }', r"key 'loss\.probability': is missing"),
        ('loss = { model = "random", probability = "1 %", p = "1 %" }', r"key 'loss\.p': unknown key"),
    ],
)
def test_errors_name_file_and_key(text: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        parse(text)


def test_gemodel_defaults_are_those_of_netem() -> None:
    profile = parse('loss = { model = "gemodel", p = "20 %" }')
    assert profile.loss == GilbertElliott(p=0.2, r=0.8, loss_bad=1.0, loss_good=0.0)


def test_bursts_by_time_survive_their_way_to_the_relay() -> None:
    profile = parse('loss = { model = "bursts", mean = "200 ms", share = "10 %" }')
    assert profile.loss == TimedBursts(0.2, 0.1)
    assert "10 % loss (bursts by time)" in profile.summary()
    assert parse_profile("test", TomlTable(profile_to_table(profile), "relay")) == profile


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("*.toml")))
def test_a_profile_survives_its_way_to_the_relay(name: str) -> None:
    profile = load_profile(name, PROFILES)
    table = profile_to_table(profile)
    assert parse_profile(name, TomlTable(table, "relay")) == profile


def test_the_three_bearers_are_what_the_manual_says() -> None:
    satcom, los, line = (load_profile(name, PROFILES) for name in ("geo-satcom", "los-radio", "terrestrial"))
    assert (satcom.delay_s, satcom.rate_bps, satcom.loss) == (0.3, 2_000_000, RandomLoss(0.01))
    assert (los.delay_s, los.jitter_s, los.rate_bps) == (0.015, 0.005, 500_000)
    assert isinstance(los.loss, GilbertElliott)
    assert los.expected_loss() == pytest.approx(0.03)
    assert (line.delay_s, line.rate_bps, line.loss) == (0.005, 50_000_000, None)


def test_an_unknown_profile_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text("")
    with pytest.raises(LabError, match=r"'two' is unknown; known: one"):
        load_profile("two", tmp_path)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("delay = ")
    with pytest.raises(LabError, match=r"bad\.toml: is no TOML"):
        load_profile("bad", tmp_path)
