# SPDX-License-Identifier: Apache-2.0
"""Certificates below intermediate authorities: which ways are good, and the reason given for each that is not."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid
from meshd.security.chain import SENT_MAX, ChainError, find_way
from meshd.security.identity import IdentityError, Trust, read_trust
from meshd.security.keys import KeyKind, make_private_key
from meshd.security.node_name import BUNDLE_SECURITY
from meshd.security.pki import Authority, to_pem
from tests.unit.security.intermediate_pki import AuthorityTree
from tests.unit.security.mission_pki import DAY, NOW

DPOP1 = Eid("dtn://dpop1/")


def der(*things: Authority | x509.Certificate) -> list[bytes]:
    certificates = [each.certificate if isinstance(each, Authority) else each for each in things]
    return [each.public_bytes(Encoding.DER) for each in certificates]


def trust(*authorities: Authority, crl: bytes | None = None) -> Trust:
    return read_trust(b"".join(to_pem(each.certificate) for each in authorities), "ca.pem", crl, "crl.pem")


@pytest.mark.parametrize("kind", list(KeyKind))
def test_a_node_below_two_intermediates_is_good_in_any_order(kind: KeyKind) -> None:
    tree = AuthorityTree(kind=kind)
    root = tree.make("root")
    upper = tree.make("upper", root, path_length=1)
    lower = tree.make("lower", upper, path_length=0)
    node = tree.issue(lower, DPOP1)[0]
    for sent in ((node, lower, upper), (node, upper, lower), (node, root, upper, lower)):
        said = trust(root).check_peer_untrusted(der(node)[0], NOW, der(*sent))
        assert said.nodes == {DPOP1}


def test_what_is_missing_is_not_made_up_for() -> None:
    tree = AuthorityTree()
    root = tree.make("root")
    upper = tree.make("upper", root)
    lower = tree.make("lower", upper)
    node = tree.issue(lower, DPOP1)[0]
    for sent in ((), (node,), (node, lower), (node, upper)):
        with pytest.raises(IdentityError, match="unknown CA"):
            trust(root).check_peer_untrusted(der(node)[0], NOW, der(*sent))
    assert trust(root, upper).check_peer_untrusted(der(node)[0], NOW, der(lower)).nodes == {DPOP1}
    assert trust(lower).check_peer_untrusted(der(node)[0], NOW).nodes == {DPOP1}


def test_an_intermediate_of_a_stranger_with_the_same_name_is_nobody() -> None:
    tree = AuthorityTree()
    root, stranger = tree.make("root"), tree.make("root")
    false = tree.make("lower", stranger)
    node = tree.issue(false, DPOP1)[0]
    with pytest.raises(IdentityError, match="unknown CA"):
        trust(root).check_peer_untrusted(der(node)[0], NOW, der(node, false, stranger))


def test_a_node_is_no_authority() -> None:
    """What a node signs with its own key counts for nothing."""
    tree = AuthorityTree()
    root = tree.make("root")
    certificate, key = tree.issue(root, Eid("dtn://dpop2/"))
    node = tree.issue(Authority(certificate, key), DPOP1)[0]
    with pytest.raises(IdentityError, match=r"serial 2 is no authority"):
        trust(root).check_peer_untrusted(der(node)[0], NOW, der(node, certificate))


WEB = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
NAMES = x509.NameConstraints([x509.DNSName("example.org")], None)
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\x00")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"is_authority": False}, "serial 2 is no authority"),
        ({"may_issue": False}, "serial 2 may not issue certificates: its key usage lacks keyCertSign"),
        ({"begin": NOW - 2 * DAY, "lifetime": DAY}, "serial 2 has expired on 2026-11-21 12:00:00Z; it is 2026-11-22"),
        ({"begin": NOW + DAY}, "serial 2 is not yet valid: it begins on 2026-11-23"),
        ({"others": ((WEB, False),)}, "serial 2 is not for bundle security"),
        ({"others": ((NAMES, True),)}, "serial 2 has the critical extension 2.5.29.30"),
        ({"others": ((UNKNOWN, True),)}, "serial 2 has the critical extension 1.3.6.1.4.1.32473.1"),
    ],
)
def test_an_intermediate_that_may_not_issue_stops_the_way(changes: dict[str, object], expected: str) -> None:
    tree = AuthorityTree()
    root = tree.make("root")
    key = make_private_key(KeyKind.ED25519)
    lower = tree.make("lower", root, key=key, **changes)  # type: ignore[arg-type]
    node = tree.issue(tree.make("lower", root, key=key), DPOP1)[0]  # good itself
    with pytest.raises(IdentityError, match=expected):
        trust(root).check_peer_untrusted(der(node)[0], NOW, der(node, lower))


@pytest.mark.parametrize(
    "extension",
    [UNKNOWN, x509.ExtendedKeyUsage([BUNDLE_SECURITY]), x509.ExtendedKeyUsage([ObjectIdentifier("2.5.29.37.0")])],
)
def test_other_extensions_of_an_intermediate_do_no_harm(extension: x509.ExtensionType) -> None:
    tree = AuthorityTree()
    root = tree.make("root")
    lower = tree.make("lower", root, others=((extension, False),))
    node = tree.issue(lower, DPOP1)[0]
    assert trust(root).check_peer_untrusted(der(node)[0], NOW, der(node, lower)).nodes == {DPOP1}


def test_path_lengths_are_kept_all_the_way_up() -> None:
    tree = AuthorityTree()
    for limits, is_good in (((1, 0), True), ((0, 0), False), ((2, None), True), ((None, 0), True)):
        root = tree.make("root", path_length=limits[0])
        lower = tree.make("lower", root, path_length=limits[1])
        node = tree.issue(lower, DPOP1)[0]
        if is_good:
            trust(root).check_peer_untrusted(der(node)[0], NOW, der(lower))
        else:
            with pytest.raises(IdentityError, match="allows 0 authorities between itself and a node, here are 1"):
                trust(root).check_peer_untrusted(der(node)[0], NOW, der(lower))
    root = tree.make("root")
    upper = tree.make("upper", root, path_length=0)
    lower = tree.make("lower", upper)
    node = tree.issue(lower, DPOP1)[0]
    with pytest.raises(IdentityError, match="allows 0 authorities"):
        trust(root).check_peer_untrusted(der(node)[0], NOW, der(lower, upper))


def test_where_one_of_two_ways_is_good_that_one_counts() -> None:
    """The same authority three times: expired, below a root that nobody knows, and below the one that is known."""
    tree = AuthorityTree()
    root, unknown = tree.make("root"), tree.make("unknown")
    good = tree.make("lower", root)
    lost = tree.make("lower", unknown, key=good.key)
    old = tree.make("lower", root, key=good.key, begin=NOW - 2 * DAY, lifetime=DAY)
    node = tree.issue(good, DPOP1)[0]
    assert trust(root).check_peer_untrusted(der(node)[0], NOW, der(old, lost, unknown, good)).nodes == {DPOP1}


def test_revocation_counts_at_every_level() -> None:
    tree = AuthorityTree()
    root = tree.make("root")
    upper = tree.make("upper", root)
    lower = tree.make("lower", upper)
    node = tree.issue(lower, DPOP1)[0]
    sent = der(node, lower, upper)

    def check(crl: bytes, *trusted: Authority) -> None:
        trust(*trusted, crl=crl).check_peer_untrusted(sent[0], NOW, sent)

    check(tree.crl_pem(root) + tree.crl_pem(upper) + tree.crl_pem(lower), root, upper, lower)
    with pytest.raises(IdentityError, match=r"the certificate is revoked .serial 4"):
        check(tree.crl_pem(lower, 4), root, upper, lower)
    for trusted in ((root, upper), (root, upper, lower)):
        with pytest.raises(IdentityError, match=r"an authority of the certificate is revoked .serial 3"):
            check(tree.crl_pem(upper, 3), *trusted)
    with pytest.raises(IdentityError, match=r"an authority of the certificate is revoked .serial 2"):
        check(tree.crl_pem(root, 2), root)
    check(tree.crl_pem(root, 4, 3), root)  # serial numbers of others


def test_a_list_counts_for_whoever_signed_it_alone() -> None:
    """Two authorities have one name, and each its own serial numbers."""
    tree = AuthorityTree()
    old, new = tree.make("root"), tree.make("root")
    node = tree.issue(new, DPOP1)[0]
    both = trust(old, new, crl=tree.crl_pem(old, 3) + tree.crl_pem(new))
    assert both.check_peer_untrusted(der(node)[0], NOW).nodes == {DPOP1}
    with pytest.raises(IdentityError, match="is revoked"):
        trust(old, new, crl=tree.crl_pem(new, 3)).check_peer_untrusted(der(node)[0], NOW)


def test_the_list_of_an_intermediate_needs_its_certificate_beside_the_authority() -> None:
    tree = AuthorityTree()
    root = tree.make("root")
    lower = tree.make("lower", root)
    with pytest.raises(SettingsError, match=r"an intermediate authority that has a list must be in ca.pem, too"):
        trust(root, crl=tree.crl_pem(lower))
    trust(root, lower, crl=tree.crl_pem(lower))


def test_tls_goes_by_the_lists_only_where_no_intermediate_can_be() -> None:
    tree = AuthorityTree()
    closed, open_ = tree.make("closed", path_length=0), tree.make("open")
    assert trust(closed, crl=tree.crl_pem(closed)).is_list_complete(NOW)
    assert not trust(open_, crl=tree.crl_pem(open_)).is_list_complete(NOW)


def test_no_more_than_a_few_certificates_are_looked_at() -> None:
    tree = AuthorityTree()
    root = tree.make("root")
    lower = tree.make("lower", root)
    node = tree.issue(lower, DPOP1)[0]
    padding = der(*(tree.make(f"other {n}") for n in range(SENT_MAX - 1)))
    trust(root).check_peer_untrusted(der(node)[0], NOW, [*padding, *der(lower)])
    with pytest.raises(IdentityError, match="unknown CA"):
        trust(root).check_peer_untrusted(der(node)[0], NOW, [*padding, *padding[:1], *der(lower)])
    with pytest.raises(IdentityError, match="can't be read"):
        trust(root).check_peer_untrusted(der(node)[0], NOW, [b"nothing"])


def test_nothing_but_one_error_comes_of_noise_in_an_intermediate() -> None:
    tree = AuthorityTree()
    root = tree.make("root")
    lower = tree.make("lower", root, path_length=0)
    (node, good) = der(tree.issue(lower, DPOP1)[0], lower)
    judge = trust(root, crl=tree.crl_pem(root))
    for position in range(len(good)):
        spoilt = good[:position] + bytes((good[position] ^ 0x55,)) + good[position + 1 :]
        with pytest.raises(IdentityError):
            judge.check_peer_untrusted(node, NOW, [node, spoilt])


def test_authorities_that_issue_each_other_come_to_an_end() -> None:
    tree = AuthorityTree()
    first = tree.make("first")
    second = tree.make("second", first)
    back = tree.make("first", second, key=first.key)
    node = tree.issue(second, DPOP1)[0]
    with pytest.raises(ChainError, match="unknown CA"):
        find_way(node, [second.certificate, back.certificate, first.certificate], [], NOW)
