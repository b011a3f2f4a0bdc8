# SPDX-License-Identifier: Apache-2.0
"""Two real daemons over TLS: a message passes, and each peer that should not get a session gets none.

Every refusal stands with its reason in `meshctl events` of the node that refuses; the message that waits for it at the
refused node stays there. Certificates are made by meshd's own PKI.
"""

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meshd.bundle.eid import Eid
from meshd.security.settings import TlsSettings
from tests.bench.support.harness import Daemon, free_port
from tests.unit.bearer.tls_peer import TlsPeer, make_foreign_context
from tests.unit.security.mission_pki import DAY, MissionPki

ALPHA, BRAVO, CHARLIE = (Eid(f"dtn://{name}/") for name in ("alpha", "bravo", "charlie"))
PATIENCE_S = 20.0
REVOKED_SERIAL = 1003

CONFIG = """
[node]
id = "{node}"
state_dir = "{folder}/state"
[control]
socket = "{folder}/control.sock"
{tls_table}
[[bearer]]
name = "lan0"
kind = "terrestrial"
device = "lo"
radiating = false
mark = 0
rate = "1 Gbit/s"
{bearer}
[[neighbour]]
node = "{neighbour}"
bearer = "lan0"
{neighbour_rest}
[emcon]
boot_posture = "OPEN"
gate = false
"""


def render(folder: Path, node: Eid, neighbour: Eid, tls: TlsSettings | None, bearer: str, address: str = "") -> str:
    table = ""
    if tls is not None:
        files = {"certificate": tls.certificate, "key": tls.key, "ca": tls.ca, "crl": tls.crl}
        table = "[tls]\n" + "".join(f'{name} = "{path}"\n' for name, path in files.items() if path is not None)
    return CONFIG.format(
        node=node, folder=folder, neighbour=neighbour, tls_table=table, bearer=bearer, neighbour_rest=address
    )


def meshctl(folder: Path, *words: str) -> list[Any]:
    """What `meshctl --json` says, object by object."""
    command = [sys.executable, "-m", "meshd.ctl.main", "--json", "--socket", str(folder / "control.sock"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    return [json.loads(line) for line in done.stdout.splitlines()]


def await_reason(folder: Path, *expected: str) -> str:
    """The reason of a refused session, once one has all these words."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        events = meshctl(folder, "events", "--replay", "1000")
        reasons = [str(each.get("reason", each.get("fields", {}).get("reason"))) for each in events]
        for reason in reasons:
            if all(words in reason for words in expected):
                return reason
        assert time.monotonic() < deadline, f"{expected} is not among {reasons}"


class Listener:
    """Bravo, which requires TLS, and what it trusts."""

    def __init__(self, folder: Path, pki: MissionPki, port: int) -> None:
        self.folder = folder
        self.pki = pki
        self.address = f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def bravo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    base = tmp_path_factory.mktemp("bravo")
    pki = MissionPki(now=datetime.now(UTC).replace(microsecond=0))
    port = free_port()
    tls = pki.write(base / "tls", BRAVO, revoked=(REVOKED_SERIAL,))
    listen = f'listen = "127.0.0.1:{port}"'
    with Daemon(base, render(base, BRAVO, ALPHA, tls, listen)):
        yield Listener(base, pki, port)


@contextmanager
def run_alpha(folder: Path, bravo: Listener, tls: TlsSettings | None) -> Iterator[Path]:
    """A daemon that dials bravo, with a message for it."""
    home = folder / "alpha"
    config = render(home, ALPHA, BRAVO, tls, "", f'address = "{bravo.address}"')
    with Daemon(home, config):
        letter = folder / "letter"
        letter.write_bytes(b"for bravo only")
        meshctl(home, "send", "bravo", str(letter))
        yield home


def assert_nothing_forwarded(bravo: Listener, home: Path) -> None:
    assert meshctl(bravo.folder, "bundles", "ls")[0]["bundles"] == []
    (bundle,) = meshctl(home, "bundles", "ls")[0]["bundles"]
    assert bundle["state"] in ("waiting", "queued")


def test_the_policy_stands_in_the_status(bravo: Listener) -> None:
    assert meshctl(bravo.folder, "status")[0]["tls"] == {"lan0": "require"}


CASES = {
    "expired": ["TLS failure: the peer's certificate, or an authority above it, has expired"],
    "not yet valid": ["TLS failure: the peer's certificate, or an authority above it, is not yet valid"],
    "unknown CA": ["TLS failure: unknown CA"],
    "revoked": ["TLS failure: the peer's certificate is revoked"],
    "plain text": ["TLS failure: TLS is required here, and the peer offers plain text only"],
}


@pytest.mark.parametrize("case", list(CASES))
def test_a_peer_is_refused_with_its_reason_and_nothing_is_forwarded(tmp_path: Path, bravo: Listener, case: str) -> None:
    pki = bravo.pki
    tls: TlsSettings | None = None
    match case:
        case "expired":
            tls = pki.write(tmp_path / "tls", ALPHA, begin=pki.now - 3 * DAY, lifetime=DAY)
        case "not yet valid":
            tls = pki.write(tmp_path / "tls", ALPHA, begin=pki.now + DAY)
        case "unknown CA":
            other = MissionPki(name="mission", now=pki.now)
            tls = other.write(tmp_path / "tls", ALPHA, revoked=None, ca_pem=pki.ca_pem)
        case "revoked":
            pki.serial = REVOKED_SERIAL - 1
            tls = pki.write(tmp_path / "tls", ALPHA)
    with run_alpha(tmp_path, bravo, tls) as home:
        await_reason(bravo.folder, *CASES[case])
        assert_nothing_forwarded(bravo, home)


def test_a_peer_with_another_nodes_certificate_is_refused(tmp_path: Path, bravo: Listener) -> None:
    """No meshd starts with a certificate that is not its own: a peer of the test's says that it is alpha."""
    TlsPeer(bravo.address, make_foreign_context(bravo.pki.write(tmp_path / "tls", CHARLIE))).talk()
    await_reason(bravo.folder, "TLS failure: wrong node ID: the peer says it is dtn://alpha/", "names dtn://charlie/")
    assert meshctl(bravo.folder, "bundles", "ls")[0]["bundles"] == []


def test_no_certificate_and_tls_1_2_are_refused_too(tmp_path: Path, bravo: Listener) -> None:
    assert "certificate required" in TlsPeer(bravo.address, make_foreign_context(None)).talk()
    await_reason(bravo.folder, "TLS failure: the peer has no certificate")
    old = make_foreign_context(bravo.pki.write(tmp_path / "tls", ALPHA), ssl.TLSVersion.TLSv1_2)
    assert "protocol version" in TlsPeer(bravo.address, old).talk()
    await_reason(bravo.folder, "TLS failure: the peer offers no TLS 1.3")


def test_a_good_neighbour_gets_its_message_through(tmp_path: Path, bravo: Listener) -> None:
    with run_alpha(tmp_path, bravo, bravo.pki.write(tmp_path / "tls", ALPHA)):
        out = tmp_path / "out"
        out.mkdir()
        meshctl(bravo.folder, "recv", "--out", str(out), "--timeout", "20s")
        (path,) = out.iterdir()
        assert path.read_bytes() == b"for bravo only"
        (link,) = meshctl(bravo.folder, "links")[0]["links"]
        assert link["tls"].startswith("TLSv1.3 TLS_")


def test_a_reload_takes_a_new_revocation_list(tmp_path: Path, bravo: Listener) -> None:
    pki = bravo.pki
    tls = pki.write(tmp_path / "tls", ALPHA)
    serial = pki.serial
    (bravo.folder / "tls" / "crl.pem").write_bytes(pki.crl_pem(REVOKED_SERIAL, serial, lifetime=timedelta(days=2)))
    meshctl(bravo.folder, "reload")
    with run_alpha(tmp_path, bravo, tls) as home:
        await_reason(home, "our certificate is revoked")
        assert_nothing_forwarded(bravo, home)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("mode", "has mode 0644: others may read this secret"),
        ("another", "names dtn://bravo/, but this node is dtn://alpha/"),
    ],
)
def test_a_daemon_does_not_start_with_unusable_files(tmp_path: Path, spoil: str, words: str) -> None:
    pki = MissionPki(now=datetime.now(UTC).replace(microsecond=0))
    tls = pki.write(tmp_path / "tls", BRAVO if spoil == "another" else ALPHA)
    if spoil == "mode":
        Path(tls.key).chmod(0o644)
    config = tmp_path / "meshd.toml"
    config.write_text(render(tmp_path, ALPHA, BRAVO, tls, ""))
    for words_of in (["--config", str(config)], ["--check-config", str(config)]):
        done = subprocess.run(
            [sys.executable, "-m", "meshd.daemon.main", *words_of],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert words in done.stdout + done.stderr
        assert done.returncode == (2 if words_of[0] == "--config" else 0)
