# SPDX-License-Identifier: Apache-2.0
"""EMCON profiles in tables and files, and the names that a site gives them."""

from pathlib import Path

import pytest

from meshd.bundle.precedence import Precedence
from meshd.emcon.profile import find_profile, profile_postures, profile_restrictions
from meshd.emcon.settings import Restriction
from meshd.link.settings import Posture
from meshd.settings.configuration import Configuration
from meshd.settings.load import load
from meshd.settings.problem import ConfigurationError

REPOSITORY = Path(__file__).parents[3]
TEXT = """\
[node]
id = "dtn://dpop1/"

[[bearer]]
name = "sat"
kind = "satcom"
rate = "1 Mbit/s"

[[bearer]]
name = "hf"
kind = "los"
rate = "64 kbit/s"

[[bearer]]
name = "lan"
kind = "terrestrial"
rate = "1 Mbit/s"

[emcon]
aliases = { C = "reduced" }
"""
REDUCED = 'radiating = { posture = "RESTRICTED", quota = "1 MiB", precedence_min = "FLASH" }\nhf = "OFF"\n'


def read(tmp_path: Path, text: str = TEXT, **profiles: str) -> Configuration:
    (tmp_path / "emcon").mkdir()
    for name, content in profiles.items():
        (tmp_path / "emcon" / f"{name}.toml").write_text(content)
    path = tmp_path / "meshd.toml"
    path.write_text(text)
    return load(path)


def test_a_file_is_a_profile_and_a_letter_stands_for_it(tmp_path: Path) -> None:
    configuration = read(tmp_path, reduced=REDUCED)
    profile = find_profile(configuration.emcon, "C")
    assert profile is find_profile(configuration.emcon, "reduced")
    assert profile_postures(profile, configuration.bearers) == {
        "sat": Posture.RESTRICTED,
        "hf": Posture.OFF,
        "lan": Posture.OPEN,
    }
    assert profile_restrictions(profile, configuration.bearers) == {"sat": Restriction(1 << 20, None, Precedence.FLASH)}


def test_the_profiles_that_come_with_meshd(tmp_path: Path) -> None:
    shipped = {path.stem: path.read_text() for path in (REPOSITORY / "config/emcon").iterdir()}
    configuration = read(tmp_path, **shipped)
    assert set(shipped) == {"unrestricted", "reduced", "silent", "terrestrial-only"}
    given = {
        name: [
            each.value for each in profile_postures(configuration.emcon.profiles[name], configuration.bearers).values()
        ]
        for name in shipped
    }
    assert given == {
        "unrestricted": ["OPEN", "OPEN", "OPEN"],
        "reduced": ["RESTRICTED", "RESTRICTED", "OPEN"],
        "silent": ["RX_ONLY", "RX_ONLY", "RX_ONLY"],
        "terrestrial-only": ["RX_ONLY", "RX_ONLY", "OPEN"],
    }


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("reduced", 'sta = "OFF"\n', "reduced.toml:1: sta: there is no bearer 'sta'; did you mean 'sat'?"),
        ("reduced", 'sat = "SILENT"\n', "reduced.toml:1: sat: 'SILENT' is not known here; write one of 'OPEN'"),
        ("reduced", '\nsat = "RESTRICTED"\n', "reduced.toml:2: sat: RESTRICTED needs a quota or a duty"),
        ("reduced", 'sat = { posture = "OFF", duty = "1 %" }\n', "sat: OFF has no duty; remove it"),
        ("reduced", 'sat = { posture = "RESTRICTED", duty = "0 %" }\n', "sat: '0 %' is out of range"),
        ("reduced", "sat = { quota = '1 MiB' }\n", "sat: there is no posture in it"),
        ("reduced", "sat = { quata = '1 MiB' }\n", "sat: 'quata' is not known here; known are posture, quota"),
        ("reduced", "sat = [\n", "reduced.toml:1: it is not valid TOML"),
        ("silent", "others = 'OPEN'\n", "silent.toml:1: this profile is built in and can't be changed"),
        ("scheduled", "others = 'OPEN'\n", "scheduled.toml:1: this profile is built in"),
        ("a b", "others = 'OPEN'\n", "'a b' can't be a name"),
        ("other", "others = 'OPEN'\n", "emcon.aliases.C: there is no profile 'reduced'; known here: unrestricted"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, name: str, content: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, **{name: content})
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('C = "reduced"', 'silent = "reduced"', "emcon.aliases.silent: there is a profile with that name"),
        ('{ C = "reduced" }', "'C'", "emcon.aliases: 'C' is no table of names"),
        ("[emcon]", "[emcon.profile.reduced]\nothers = 'OFF'\n[emcon]", "[emcon.profile.reduced] is there, too"),
        ('name = "sat"', 'name = "sat"\nmark = 0', "reduced.toml:1: radiating: sat has mark = 0"),
        ('name = "sat"', 'name = "radiating"', "'radiating' means several bearers in profiles"),
        ("[emcon]", "[emcon]\nboot_posture = 'RESTRICTED'", "write one of 'OPEN', 'RX_ONLY', 'OFF'"),
    ],
)
def test_what_is_wrong_with_the_configuration(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, TEXT.replace(old, new, 1), reduced=REDUCED)
    assert expected in str(caught.value)
