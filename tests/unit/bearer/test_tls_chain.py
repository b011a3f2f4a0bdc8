# SPDX-License-Identifier: Apache-2.0
"""Two bearers whose certificates stand below intermediate authorities, over real sockets. Needs root for SO_MARK."""

from pathlib import Path

import pytest
import trio

from meshd.bundle.eid import Eid
from meshd.node.events import LinkUp
from meshd.security.keys import KeyKind, private_key_to_pem
from meshd.security.pki import Authority, to_pem
from meshd.security.settings import TlsSettings
from tests.unit.bearer.tcp_peers import ALPHA, BRAVO
from tests.unit.bearer.tls_pair import assert_nothing_passed, host_now, make_identity, make_pair, reason_of
from tests.unit.security.intermediate_pki import AuthorityTree
from tests.unit.security.mission_pki import DAY

pytestmark = pytest.mark.root


class Mission:
    """A root, and an intermediate authority for each node."""

    def __init__(self, folder: Path, kind: KeyKind = KeyKind.ED25519) -> None:
        self.folder = folder
        self.tree = AuthorityTree(host_now().replace(microsecond=0), kind)
        self.root = self.tree.make("root")

    def write(
        self,
        node: Eid,
        above: Authority,
        *sent: Authority,
        trusted: tuple[Authority, ...] = (),
        crl: bytes | None = None,
    ) -> TlsSettings:
        """Files of a node below `above`, which sends `sent` along."""
        certificate, key = self.tree.issue(above, node)
        folder = self.folder / node.uri.strip("/").rpartition("/")[2]
        folder.mkdir()
        files = {
            "node.pem": b"".join(map(to_pem, (certificate, *(each.certificate for each in sent)))),
            "node.key": private_key_to_pem(key),
            "ca.pem": b"".join(to_pem(each.certificate) for each in (self.root, *trusted)),
            "crl.pem": crl or b"",
        }
        for name, data in files.items():
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o600)
        return TlsSettings(
            folder / "node.pem", folder / "node.key", folder / "ca.pem", folder / "crl.pem" if crl else None
        )


@pytest.mark.parametrize("kind", list(KeyKind))
@pytest.mark.parametrize("is_listed", [False, True])
async def test_nodes_below_different_intermediates_meet(
    nursery: trio.Nursery, tmp_path: Path, kind: KeyKind, is_listed: bool
) -> None:
    """Also where the root alone has a revocation list: OpenSSL would want one of each intermediate."""
    mission = Mission(tmp_path, kind)
    crl = mission.tree.crl_pem(mission.root) if is_listed else None
    upper = mission.tree.make("upper", mission.root)
    lower = mission.tree.make("lower", upper, path_length=0)
    other = mission.tree.make("other", mission.root, path_length=0)
    bravo, alpha = await make_pair(
        nursery,
        make_identity(mission.write(BRAVO, lower, lower, upper, crl=crl), BRAVO),
        make_identity(mission.write(ALPHA, other, other, crl=crl), ALPHA),
    )
    await alpha.recorder.wait_for(LinkUp)
    await bravo.recorder.wait_for(LinkUp)


async def test_an_intermediate_beside_the_authority_need_not_be_sent(nursery: trio.Nursery, tmp_path: Path) -> None:
    mission = Mission(tmp_path)
    lower = mission.tree.make("lower", mission.root)
    at_bravo, at_alpha = (
        make_identity(mission.write(node, lower, trusted=(lower,), crl=mission.tree.crl_pem(lower)), node)
        for node in (BRAVO, ALPHA)
    )
    bravo, alpha = await make_pair(nursery, at_bravo, at_alpha)
    await alpha.recorder.wait_for(LinkUp)
    await bravo.recorder.wait_for(LinkUp)


@pytest.mark.parametrize("refuser", ["listener", "dialler"])
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("expired", "or an authority above it, has expired"),
        ("not sent", "unknown CA"),
        ("too long", "allows no further one below it"),
        ("no keyCertSign", "lacks keyCertSign"),
        ("no authority", "is no authority"),
        ("intermediate revoked", "an authority of the certificate is revoked"),
        ("node revoked by its intermediate", "the certificate is revoked"),
    ],
)
async def test_a_bad_way_is_refused_on_either_side(
    nursery: trio.Nursery, tmp_path: Path, refuser: str, case: str, expected: str
) -> None:
    good_node, bad_node = (BRAVO, ALPHA) if refuser == "listener" else (ALPHA, BRAVO)
    mission = Mission(tmp_path)
    tree, root = mission.tree, mission.root
    crl: bytes | None = None
    trusted: tuple[Authority, ...] = ()
    lower = tree.make("lower", root)
    sent: tuple[Authority, ...] = (lower,)
    match case:
        case "expired":
            sent = (tree.make("lower", root, key=lower.key, begin=tree.now - 2 * DAY, lifetime=DAY),)
        case "not sent":
            sent = ()
        case "too long":
            upper = tree.make("upper", root, path_length=0)
            sent = (tree.make("lower", upper, key=lower.key), upper)
        case "no keyCertSign":
            sent = (tree.make("lower", root, key=lower.key, may_issue=False),)
        case "no authority":
            sent = (tree.make("lower", root, key=lower.key, is_authority=False),)
        case "intermediate revoked":
            crl = tree.crl_pem(root, lower.certificate.serial_number)
        case _:
            crl, trusted = tree.crl_pem(root) + tree.crl_pem(lower, tree.serial + 1), (lower,)
    bad = mission.write(bad_node, lower, *sent)
    good = mission.write(good_node, root, crl=crl, trusted=trusted)
    identities = {good_node: make_identity(good, good_node), bad_node: make_identity(bad, bad_node)}
    bravo, alpha = await make_pair(nursery, identities[BRAVO], identities[ALPHA])
    reason = await reason_of(bravo if refuser == "listener" else alpha)
    assert reason.startswith("TLS failure: ")
    assert expected in reason
    assert_nothing_passed(bravo, alpha)
