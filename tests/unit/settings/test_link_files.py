# SPDX-License-Identifier: Apache-2.0
"""The files of radio links: what `meshctl pki issue` makes is taken, and what others may touch is not."""

import os
from pathlib import Path

import pytest

from meshd.base.errors import SettingsError
from meshd.bundle.eid import parse_eid
from meshd.ctl.main import run
from meshd.security.link_files import LinkFiles
from meshd.security.pairwise import PairwiseKeys, Verdict
from meshd.settings.link_files import read_link_files

HERE, THERE = parse_eid("dtn://dpop1/"), parse_eid("dtn://dpop2/")


@pytest.fixture
def nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Folders of two nodes."""
    folder = tmp_path / "pki"
    assert run(["pki", "init", "--dir", str(folder)]) == 0
    for name in ("dpop1", "dpop2"):
        assert run(["pki", "issue", "--dir", str(folder), name]) == 0
    capsys.readouterr()
    return folder / "nodes"


def read(folder: Path) -> LinkFiles:
    return read_link_files(folder / "link.key", folder / "link.x25519", folder / "link.peers")


def test_two_issued_nodes_understand_each_others_tags(nodes: Path) -> None:
    here, there = (
        PairwiseKeys(node, files.private_key, files.peers, files.keys)
        for node, files in ((HERE, read(nodes / "dpop1")), (THERE, read(nodes / "dpop2")))
    )
    tag = there.make_tag(HERE, 1, Verdict.TAKEN, b"object", b"digest")
    assert here.is_tag_good(tag, THERE, 1, Verdict.TAKEN, b"object", b"digest")


@pytest.mark.parametrize("name", ["link.key", "link.x25519"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_secret_that_others_may_read_is_refused(nodes: Path, name: str, mode: int) -> None:
    (nodes / "dpop1" / name).chmod(mode)
    with pytest.raises(SettingsError, match=f"{name} has mode {mode:04o}: others may read this secret"):
        read(nodes / "dpop1")


def test_public_keys_may_be_read_by_all_and_written_by_none(nodes: Path) -> None:
    path = nodes / "dpop1/link.peers"
    path.chmod(0o644)
    assert set(read(nodes / "dpop1").peers) == {HERE, THERE}
    for mode in (0o660, 0o646):
        path.chmod(mode)
        with pytest.raises(SettingsError, match=f"has mode {mode:04o}: others may write it"):
            read(nodes / "dpop1")


@pytest.mark.parametrize("name", ["link.key", "link.x25519", "link.peers"])
def test_what_is_missing_or_damaged_is_named(nodes: Path, name: str) -> None:
    path = nodes / "dpop1" / name
    path.write_bytes(b"x")
    with pytest.raises(SettingsError, match=f"{name} is no "):
        read(nodes / "dpop1")
    path.unlink()
    with pytest.raises(SettingsError, match=f"{name} can't be read: No such file"):
        read(nodes / "dpop1")


@pytest.mark.root
def test_public_keys_of_another_user_are_refused(nodes: Path) -> None:
    os.chown(nodes / "dpop1/link.peers", 12345, -1)
    with pytest.raises(SettingsError, match="belongs to user 12345"):
        read(nodes / "dpop1")
