# SPDX-License-Identifier: Apache-2.0
"""The [tls] table: its files together, the policy of each bearer, and what a reload does with it."""

from pathlib import PurePosixPath

import pytest

from meshd.link.settings import TlsPolicy
from meshd.security.settings import TlsSettings
from meshd.settings.compare import compare, merge
from meshd.settings.configuration import Configuration
from meshd.settings.load import parse
from meshd.settings.problem import ConfigurationError

HEAD = '[node]\nid = "dtn://a/"\n'
FILES = '[tls]\ncertificate = "/t/node.pem"\nkey = "/t/node.key"\nca = "/t/ca.pem"\n'
BEARER = '[[bearer]]\nname = "lan0"\nkind = "terrestrial"\nrate = "1 Mbit/s"\n'


def read(*parts: str) -> Configuration:
    return parse("".join((HEAD, *parts)), "meshd.toml")


def complaints(*parts: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(*parts)
    return str(caught.value)


@pytest.mark.parametrize(
    ("files", "policy", "expected"),
    [
        ("", "", TlsPolicy.NEVER),
        ("", 'tls = "never"\n', TlsPolicy.NEVER),
        (FILES, "", TlsPolicy.REQUIRE),
        (FILES, 'tls = "opportunistic"\n', TlsPolicy.OPPORTUNISTIC),
        (FILES, 'tls = "never"\n', TlsPolicy.NEVER),
    ],
)
def test_the_policy_of_a_bearer(files: str, policy: str, expected: TlsPolicy) -> None:
    assert read(files, BEARER, policy).bearers[0].tls is expected


def test_the_files() -> None:
    paths = [PurePosixPath("/t", name) for name in ("node.pem", "node.key", "ca.pem", "crl.pem")]
    assert read(FILES, BEARER).tls == TlsSettings(paths[0], paths[1], paths[2], None)
    assert read(FILES, 'crl = "/t/crl.pem"\n', BEARER).tls == TlsSettings(*paths)
    assert read(BEARER).tls is None


def test_other_settings_of_sessions() -> None:
    bearer = read(BEARER, 'congestion = "bbr"\nsession_idle = "1 min"\n').bearers[0]
    assert (bearer.congestion, bearer.session_idle_s) == ("bbr", 60)
    assert (read(BEARER).bearers[0].congestion, read(BEARER).bearers[0].session_idle_s) == (None, 10)


@pytest.mark.parametrize("policy", ["require", "opportunistic"])
def test_no_policy_without_a_certificate(policy: str) -> None:
    text = complaints(BEARER, f'tls = "{policy}"\n')
    assert "bearer[1].tls: there is no certificate; add a [tls] table: `meshctl pki` makes its files" in text


def test_files_that_are_missing_are_named() -> None:
    assert "meshd.toml:3: tls: certificate, ca is missing" in complaints('[tls]\nkey = "/t/node.key"\n', BEARER)
    assert "certificate, key, ca is missing" in complaints('[tls]\ncrl = "/t/crl.pem"\n', BEARER)
    assert "is not an absolute path" in complaints(FILES.replace("/t/node.key", "node.key"), BEARER)
    assert "write one of 'require', 'opportunistic', 'never'" in complaints(FILES, BEARER, 'tls = "always"\n')


def test_mtcp_never_where_the_default_requires_authentication() -> None:
    neighbour = '[[neighbour]]\nnode = "dtn://b/"\nbearer = "lan0"\naddress = "10.0.0.2:4557"\ncl = "mtcp"\n'
    assert "MTCP can't authenticate anybody" in complaints(FILES, BEARER, neighbour)
    read(FILES, BEARER, 'tls = "never"\n', neighbour)


def test_new_files_count_at_once_a_new_policy_after_a_restart() -> None:
    old, new = read(FILES, BEARER), read(FILES.replace("ca.pem", "new.pem"), BEARER)
    assert compare(old, new) == (["tls.ca"], [])
    assert merge(old, new).tls == new.tls
    plain = read(BEARER)
    changed, needs_restart = compare(old, plain)
    assert "bearer lan0" in needs_restart
    assert merge(old, plain).tls == old.tls  # its bearers still require it
    assert changed == ["tls.certificate", "tls.key", "tls.ca"]
