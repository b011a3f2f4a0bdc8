# SPDX-License-Identifier: Apache-2.0
"""`meshctl pki`: from an empty folder to nodes with certificates, and back by revocation. No daemon."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshd.bundle.eid import Eid
from meshd.ctl.main import run
from meshd.ctl.pki_folder import name_of, utc_now
from meshd.security.identity import IdentityError, read_trust
from meshd.security.keys import private_key_from_pem
from meshd.security.link_keys import parse_link_keys_untrusted

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, capsys: Capture) -> Path:
    path = tmp_path / "pki"
    assert run(["pki", "init", "--dir", str(path), "--name", "Exercise 7"]) == 0
    assert "Exercise 7" in capsys.readouterr().out
    return path


def call(folder: Path, capsys: Capture, *words: str) -> Any:
    assert run(["--json", "pki", words[0], "--dir", str(folder), *words[1:]]) == 0
    return json.loads(capsys.readouterr().out)


def check(folder: Path, node: str) -> frozenset[Eid]:
    """What another node would make of this one's certificate."""
    own = folder / "nodes" / node
    trust = read_trust((own / "ca.pem").read_bytes(), "ca", (own / "crl.pem").read_bytes(), "crl")
    certificate = x509.load_pem_x509_certificate((own / "node.pem").read_bytes())
    return trust.check_peer_untrusted(certificate.public_bytes(Encoding.DER), utc_now()).nodes


@pytest.mark.parametrize("kind", ["ed25519", "p384"])
def test_an_issued_node_is_trusted(folder: Path, capsys: Capture, kind: str) -> None:
    made = call(folder, capsys, "issue", "dpop1", "--key", kind)
    assert made["node"] == "dtn://dpop1/"
    own = folder / "nodes/dpop1"
    assert check(folder, "dpop1") == {Eid("dtn://dpop1/")}
    private_key_from_pem((own / "signing.key").read_bytes(), "signing.key")
    assert list(parse_link_keys_untrusted((own / "link.key").read_bytes(), "link.key")) == [1]
    assert (own / "link.key").read_bytes() == (folder / "link.key").read_bytes()


def test_nobody_else_may_read_anything(folder: Path, capsys: Capture) -> None:
    call(folder, capsys, "issue", "ipn:3.0")
    modes = {path.name: path.stat().st_mode & 0o077 for path in [folder, *folder.rglob("*")]}
    assert "ipn-3.0" in modes
    assert set(modes.values()) == {0}


def test_revoking_reaches_every_node_and_is_remembered(folder: Path, capsys: Capture) -> None:
    call(folder, capsys, "issue", "dpop1")
    call(folder, capsys, "issue", "dpop2")
    call(folder, capsys, "issue", "dpop1", "--force")
    assert len(call(folder, capsys, "revoke", "dpop1")["revoked"]) == 2
    with pytest.raises(IdentityError, match="revoked"):
        check(folder, "dpop1")
    assert check(folder, "dpop2") == {Eid("dtn://dpop2/")}
    assert call(folder, capsys, "revoke") == {"revoked": []}  # renews the list
    shown = call(folder, capsys, "show")
    states = sorted((row["nodes"][0], row["state"]) for row in shown["certificates"])
    assert states == [("dtn://dpop1/", "revoked"), ("dtn://dpop1/", "revoked"), ("dtn://dpop2/", "good")]
    serial = next(row["serial"] for row in shown["certificates"] if row["state"] == "good")
    assert [row["serial"] for row in call(folder, capsys, "revoke", serial)["revoked"]] == [serial]


def test_nothing_is_replaced_without_force(folder: Path, capsys: Capture) -> None:
    call(folder, capsys, "issue", "dpop1")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(["pki", "init", "--dir", str(folder)]) == 1
    assert "holds an authority already: use --force" in capsys.readouterr().err
    assert run(["pki", "issue", "--dir", str(folder), "dpop1"]) == 1
    assert "is there already: use --force" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_is_missing_is_named(tmp_path: Path, folder: Path, capsys: Capture) -> None:
    assert run(["pki", "issue", "--dir", str(tmp_path / "none"), "dpop1"]) == 1
    assert "ca.key can't be read: No such file or directory" in capsys.readouterr().err
    assert run(["pki", "revoke", "--dir", str(folder), "dpop9"]) == 1
    assert "has issued nothing to dtn://dpop9/" in capsys.readouterr().err
    (folder / "ca.key").chmod(0o644)
    assert run(["pki", "issue", "--dir", str(folder), "dpop1"]) == 1
    assert "others may read this secret" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["issue", "a b"], ["issue", "dtn:none"], ["issue", "x", "--lifetime", "99999999d"]])
def test_nonsense_is_wrong_usage(words: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["pki", *words])
    assert ended.value.code == 2


def test_show_for_people(folder: Path, capsys: Capture) -> None:
    call(folder, capsys, "issue", "dpop1")
    assert run(["pki", "show", "--dir", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "Exercise 7" in text
    assert "dtn://dpop1/" in text


def test_a_nodes_folder_has_a_harmless_name() -> None:
    assert name_of(Eid("dtn://../")) == "_"
    assert name_of(Eid("dtn://a%2F.b/")) == "a_2F.b"
    assert name_of(Eid("ipn:3.0")) == "ipn-3.0"
