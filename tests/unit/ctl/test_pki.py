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
from meshd.security.boot_number import parse_boot_number_untrusted
from meshd.security.identity import IdentityError, read_trust
from meshd.security.keys import private_key_from_pem
from meshd.security.link_keys import LinkKeys, parse_link_keys_untrusted
from meshd.security.link_peers import link_private_key_from_pem, parse_link_peers_untrusted
from meshd.security.signing_peers import SigningFiles, parse_signing_peers_untrusted, signing_key_from_pem

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
    assert list(parse_link_keys_untrusted((own / "link.key").read_bytes(), "link.key").keys) == [1]
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


def peers_of(folder: Path) -> dict[Eid, bytes]:
    """What every folder says about the public link keys: the same."""
    found = {path.read_bytes() for path in folder.rglob("link.peers")}
    assert len(found) == 1
    return parse_link_peers_untrusted(found.pop(), "link.peers")


def test_every_node_gets_a_signing_key_that_all_others_hear_of(folder: Path, capsys: Capture) -> None:
    for name in ("dpop1", "home"):
        call(folder, capsys, "issue", name)
    (data,) = {path.read_bytes() for path in folder.rglob("signing.peers")}
    peers = parse_signing_peers_untrusted(data, "signing.peers")
    for name in ("dpop1", "home"):
        pem = (folder / "nodes" / name / "signing.key").read_bytes()
        SigningFiles(signing_key_from_pem(pem, "signing.key"), peers).check(Eid(f"dtn://{name}/"))
    call(folder, capsys, "revoke", "dpop1")
    (data,) = {path.read_bytes() for path in folder.rglob("signing.peers")}
    assert set(parse_signing_peers_untrusted(data, "signing.peers")) == {Eid("dtn://home/")}


def test_every_node_gets_a_link_key_that_all_others_hear_of(folder: Path, capsys: Capture) -> None:
    assert peers_of(folder) == {}
    for name in ("dpop1", "home"):
        call(folder, capsys, "issue", name)
        private = link_private_key_from_pem((folder / "nodes" / name / "link.x25519").read_bytes(), "link.x25519")
        assert peers_of(folder)[Eid(f"dtn://{name}/")] == private.public_key().public_bytes_raw()
    before = peers_of(folder)
    assert len(before) == 2
    call(folder, capsys, "issue", "dpop1", "--force")
    changed = {node for node, key in peers_of(folder).items() if before[node] != key}
    assert changed == {Eid("dtn://dpop1/")}


def test_a_new_issue_has_a_boot_number_above_those_before(folder: Path, capsys: Capture) -> None:
    call(folder, capsys, "issue", "dpop1")
    number = parse_boot_number_untrusted((folder / "nodes/dpop1/link.boot").read_bytes(), "link.boot")
    assert abs(number - utc_now().timestamp()) < 600


def test_a_node_without_a_good_certificate_leaves_the_list(folder: Path, capsys: Capture) -> None:
    first = call(folder, capsys, "issue", "dpop1")["serial"]
    call(folder, capsys, "issue", "dpop1", "--force")
    call(folder, capsys, "issue", "dpop2")
    call(folder, capsys, "revoke", first)
    assert set(peers_of(folder)) == {Eid("dtn://dpop1/"), Eid("dtn://dpop2/")}
    call(folder, capsys, "revoke", "dpop1")
    assert set(peers_of(folder)) == {Eid("dtn://dpop2/")}


def link_keys_of(folder: Path) -> LinkKeys:
    """What every folder says about the link keys: the same."""
    found = {path.read_bytes() for path in folder.rglob("link.key")}
    assert len(found) == 1
    return parse_link_keys_untrusted(found.pop(), "link.key")


def test_a_roll_reaches_every_node_step_by_step(folder: Path, capsys: Capture) -> None:
    call(folder, capsys, "issue", "dpop1")
    before = link_keys_of(folder)
    assert call(folder, capsys, "roll", "add") == {"epochs": [1, 2], "current": 1}
    assert link_keys_of(folder).keys[1] == before.keys[1] != link_keys_of(folder).keys[2]
    assert call(folder, capsys, "roll", "use") == {"epochs": [1, 2], "current": 2}
    assert call(folder, capsys, "show")["link_key_current"] == 2
    assert call(folder, capsys, "roll", "drop") == {"epochs": [2], "current": 2}
    assert link_keys_of(folder).current == 2


def test_a_step_of_a_roll_out_of_turn_changes_nothing(folder: Path, capsys: Capture) -> None:
    assert run(["pki", "roll", "--dir", str(folder), "use"]) == 1
    assert "`meshctl pki roll add` comes first" in capsys.readouterr().err
    call(folder, capsys, "roll", "add")
    assert run(["pki", "roll", "--dir", str(folder), "add"]) == 1
    assert "`meshctl pki roll use` comes first" in capsys.readouterr().err
    assert sorted(link_keys_of(folder).keys) == [1, 2]


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
