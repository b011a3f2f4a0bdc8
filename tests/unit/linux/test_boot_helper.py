# SPDX-License-Identifier: Apache-2.0
"""The boot unit's helper reads the configuration without Python: it must name the devices that Python would."""

import subprocess
import tomllib
from pathlib import Path

import pytest

from meshd.linux.nfnetlink import chain_name

REPOSITORY = Path(__file__).resolve().parents[3]
HELPER = REPOSITORY / "config" / "meshd-gate"

CONFIG = """
[node]
id = "dtn://dpop1/"

[[bearer]]
name = "satcom0"            # a comment
kind = "satcom"

  [[ bearer ]]  # indented
name = 'los # 0'
kind = "los"
device = "wlan0"

[[bearer]]
name = "lan0"
kind = "terrestrial"

[[bearer]]
name = "lan1"
kind = "terrestrial"
radiating = true # a leaky cable

[[bearer]]
kind = "los"
name = "wire0"
radiating = false

[[neighbour]]
node = "dtn://home/"
bearer = "satcom0"
device = "not-a-bearer"

[emcon.profile.quiet-bearer]
satcom0 = "RX_ONLY"
"""


def listed(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELPER, "--list", config], capture_output=True, text=True, timeout=30)


def as_python_reads_it(config: Path) -> list[str]:
    bearers = tomllib.loads(config.read_text())["bearer"]
    return [
        bearer.get("device", bearer["name"])
        for bearer in bearers
        if bearer.get("radiating", bearer["kind"] in ("satcom", "los"))
    ]


def test_it_names_what_radiates(tmp_path: Path) -> None:
    config = tmp_path / "meshd.toml"
    config.write_text(CONFIG)
    assert listed(config).stdout.split("\n")[:-1] == ["satcom0", "wlan0", "lan1"] == as_python_reads_it(config)


def test_it_reads_the_example() -> None:
    example = REPOSITORY / "config" / "meshd.toml"
    assert listed(example).stdout.split() == as_python_reads_it(example) != []


def test_line_ends_of_other_systems_do_not_matter(tmp_path: Path) -> None:
    config = tmp_path / "meshd.toml"
    config.write_bytes(CONFIG.replace("\n", "\r\n").encode())
    assert listed(config).stdout.split() == ["satcom0", "wlan0", "lan1"]


@pytest.mark.parametrize(
    "text",
    [
        'bearer = [{ name = "sat", kind = "satcom" }]\n',
        'bearer.name = "sat"\n',
        "[[bearer]]\nkind = 'satcom'\n",
        '[[bearer]]\nname = "a"\nkind = "los"\n[["bearer"]]\nname = "b"\nkind = "los"\n',
        "[node]\nid = 'dtn://dpop1/'\n",
        "",
    ],
)
def test_what_it_can_not_read_is_an_error(tmp_path: Path, text: str) -> None:
    config = tmp_path / "meshd.toml"
    config.write_text(text)
    done = listed(config)
    assert done.returncode == 1
    assert "[[bearer]]" in done.stderr
    assert done.stdout == ""


def test_a_missing_configuration_is_an_error(tmp_path: Path) -> None:
    done = listed(tmp_path / "none.toml")
    assert done.returncode == 1
    assert "install a configuration" in done.stderr


def test_nothing_that_radiates_is_no_error(tmp_path: Path) -> None:
    config = tmp_path / "meshd.toml"
    config.write_text('[[bearer]]\nname = "lan0"\nkind = "terrestrial"\n')
    done = listed(config)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_names_chains_as_the_daemon_does() -> None:
    script = HELPER.read_text().split("rules() {")[1].split("\n}\n")[0]
    for device in ("rad0", "eth0.100", "a:b@c", "a_b"):
        done = subprocess.run(
            ["sh", "-c", "rules() {" + script + '\n}\nrules "$1"', "sh", device],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert f"chain {chain_name(device)} {{" in done.stdout
