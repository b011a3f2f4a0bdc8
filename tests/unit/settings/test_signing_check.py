# SPDX-License-Identifier: Apache-2.0
"""The signing keys of [security]: both or none, with or without link keys; and how their files are read."""

from pathlib import Path, PurePath

import pytest

from meshd.base.errors import SettingsError
from meshd.bundle.eid import parse_eid
from meshd.security.keys import private_key_to_pem
from meshd.security.settings import SigningSettings
from meshd.security.signing_peers import make_signing_key, pack_signing_peers
from meshd.settings.compare import compare, merge
from meshd.settings.link_files import read_signing_files
from meshd.settings.load import parse
from meshd.settings.problem import ConfigurationError

BASE = '[node]\nid = "dtn://dpop1/"\n'
KEYS = '[security]\nsigning_key = "/k/signing.key"\nsigning_peers = "/k/signing.peers"\n'
NODE = parse_eid("dtn://dpop1/")


def test_both_stand_without_link_keys() -> None:
    read = parse(BASE + KEYS, "meshd.toml")
    assert read.signing == SigningSettings(PurePath("/k/signing.key"), PurePath("/k/signing.peers"))
    assert read.security is None
    assert read.routing.advertise


def test_one_alone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="signing_peers is missing"):
        parse(BASE + '[security]\nsigning_key = "/k/signing.key"\n', "meshd.toml")


def test_a_reload_takes_them_over_and_switches_off() -> None:
    old, new = parse(BASE, "a"), parse(BASE + KEYS + "[routing]\nadvertise = false\n", "b")
    assert compare(old, new) == (["security.signing_key", "security.signing_peers", "routing.advertise"], [])
    merged = merge(old, new)
    assert (merged.signing, merged.routing.advertise) == (new.signing, False)


def test_the_private_key_is_private_and_the_list_is_nobodys_to_change(tmp_path: Path) -> None:
    key = make_signing_key()
    own, peers = tmp_path / "signing.key", tmp_path / "signing.peers"
    own.write_bytes(private_key_to_pem(key))
    peers.write_bytes(pack_signing_peers({NODE: key.public_key().public_bytes_raw()}))
    own.chmod(0o600)
    peers.chmod(0o644)
    read_signing_files(own, peers).check(NODE)
    own.chmod(0o640)
    with pytest.raises(SettingsError, match=r"signing.key has mode 0640"):
        read_signing_files(own, peers)
    own.chmod(0o600)
    peers.chmod(0o664)
    with pytest.raises(SettingsError, match=r"signing.peers has mode 0664"):
        read_signing_files(own, peers)
