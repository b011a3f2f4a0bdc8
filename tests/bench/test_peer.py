# SPDX-License-Identifier: Apache-2.0
"""Any node can stand between source and sink: here meshd itself plays the peer that the environment names."""

import sys
from pathlib import Path

import pytest

from tests.bench.forward import Load, run_peer
from tests.bench.support.harness import ROOT, BenchError
from tests.bench.support.relay import CONFIG, PEER_VARIABLE, peer, peer_program

SMALL = Load("small", "small", 100, 300, 300)
LARGE = Load("large", "large", 100_000, 5, 5)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o700)
    return str(path)


def test_a_peer_carries_the_same_load(tmp_path: Path) -> None:
    program = script(
        tmp_path / "peer",
        "import os, pathlib, sys\n"
        "here = pathlib.Path.cwd()\n"
        f"text = {CONFIG!r}.format(name='relay', directory=here, port=sys.argv[1], previous='source',\n"
        "    following='sink', following_port=sys.argv[2])\n"
        "(here / 'peer.toml').write_text(text)\n"
        f"os.chdir({str(ROOT)!r})\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'meshd.daemon.main', '--config', str(here / 'peer.toml')])\n",
    )
    results = run_peer(program, (SMALL, LARGE), quick=True)
    assert results.keys() == {SMALL, LARGE}
    assert all(result["bundles_per_s"] > 0 for result in results.values())


def test_a_peer_that_does_not_listen_is_named(tmp_path: Path) -> None:
    program = script(tmp_path / "peer", "raise SystemExit(1)\n")
    with (
        pytest.raises(BenchError, match=f"{PEER_VARIABLE}: the program does not listen"),
        peer(program, tmp_path / "d", 1),
    ):
        pass


def test_a_peer_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no-such-peer can't be started"), peer("/no-such-peer", tmp_path / "d", 1):
        pass


def test_without_a_name_there_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PEER_VARIABLE, raising=False)
    assert peer_program() is None
    monkeypatch.setenv(PEER_VARIABLE, "/opt/other/node")
    assert peer_program() == "/opt/other/node"
