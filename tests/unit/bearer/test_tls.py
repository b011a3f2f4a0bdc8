# SPDX-License-Identifier: Apache-2.0
"""Two bearers over TLS on the loopback device: what passes, and every reason for which a session is refused.

Each refusal is told as an event with its reason, on the side that refuses, and nothing is forwarded. Needs root for
SO_MARK.
"""

import random
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from meshd.base.errors import SettingsError
from meshd.bearer.connection import accept
from meshd.cl.tcpclv4.messages import CONTACT_HEADER, CONTACT_HEADER_TLS, SessionInit, pack_session_init
from meshd.link.settings import TlsPolicy
from meshd.node.events import BundlesReceived, LinkDown, LinkUp, TransfersAcknowledged
from meshd.security.keys import KeyKind
from meshd.security.settings import TlsSettings
from tests.unit.bearer.tcp_peers import (
    ALPHA,
    BRAVO,
    CHARLIE,
    PATIENCE_S,
    Peer,
    make_id,
    make_link,
)
from tests.unit.bearer.tls_pair import Side, assert_nothing_passed, host_now, make_identity, make_pair, reason_of
from tests.unit.bearer.tls_peer import TlsPeer, make_foreign_context
from tests.unit.security.mission_pki import DAY, MissionPki

pytestmark = pytest.mark.root


@pytest.fixture
def pki() -> MissionPki:
    return MissionPki(now=host_now().replace(microsecond=0))


@pytest.mark.parametrize("kind", list(KeyKind))
async def test_bundles_pass_over_tls_both_ways(nursery: trio.Nursery, tmp_path: Path, kind: KeyKind) -> None:
    pki = MissionPki(kind, now=host_now().replace(microsecond=0))
    bravo, alpha = await make_pair(
        nursery,
        make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO),
        make_identity(pki.write(tmp_path / "a", ALPHA), ALPHA),
    )
    await alpha.recorder.wait_for(LinkUp)
    await bravo.recorder.wait_for(LinkUp)
    bodies = [b"small", b"x" * 3_000_000, b"", *(bytes((n,)) * 900 for n in range(200)), b"y" * 70_000]
    alpha.bearer.send_bundles(make_link(BRAVO), [(make_id(n), [b[:3], b[3:]]) for n, b in enumerate(bodies)])
    bravo.bearer.send_bundles(make_link(ALPHA), [(make_id(999), [b"ba", b"ck"])])
    await bravo.recorder.until(lambda: len(bravo.received()) == len(bodies))
    await alpha.recorder.until(lambda: len(alpha.received()) == 1)
    assert bravo.received() == bodies
    assert alpha.received() == [b"back"]
    for side in (bravo, alpha):
        transfers = [row.transfer for event in side.recorder.all(BundlesReceived) for row in event.rows]
        accept(transfers)
    await bravo.recorder.wait_for(TransfersAcknowledged)
    await alpha.recorder.until(
        lambda: sum(len(event.ids) for event in alpha.recorder.all(TransfersAcknowledged)) == len(bodies)
    )
    fields = await alpha.recorder.wait_for_report("session.established")
    assert str(fields["tls"]).startswith("TLSv1.3 TLS_")
    assert str(bravo.bearer.snapshot()[0]["tls"]).startswith("TLSv1.3 ")
    with trio.fail_after(PATIENCE_S):
        await alpha.bearer.shutdown()
    (down,) = await bravo.recorder.wait_for(LinkDown)
    assert down.reason == "terminated: the peer ended the session: unknown"


async def test_much_in_both_directions_at_once(nursery: trio.Nursery, tmp_path: Path, pki: MissionPki) -> None:
    """More than the kernel's buffers hold: both sides are blocked again and again in the middle of a record."""
    bravo, alpha = await make_pair(
        nursery,
        make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO),
        make_identity(pki.write(tmp_path / "a", ALPHA), ALPHA),
    )
    rng = random.Random(7)
    sizes = [rng.choice((1, 50, 5000, 16_384, 16_385, 300_000, 2_000_000)) for _ in range(40)]
    bodies = [rng.randbytes(size) for size in sizes]
    await alpha.recorder.wait_for(LinkUp)
    await bravo.recorder.wait_for(LinkUp)
    for side in (alpha, bravo):
        rows = [(make_id(n), [body[: n * 100], body[n * 100 :]]) for n, body in enumerate(bodies)]
        side.bearer.send_bundles(make_link(side.neighbour), rows)
    await alpha.recorder.until(lambda: len(alpha.received()) == len(bodies))
    await bravo.recorder.until(lambda: len(bravo.received()) == len(bodies))
    assert alpha.received() == bravo.received() == bodies


async def test_wrong_node_id_is_refused(nursery: trio.Nursery, tmp_path: Path, pki: MissionPki) -> None:
    """Charlie, a good node of the mission, says that it is alpha."""
    charlie = make_identity(pki.write(tmp_path / "c", CHARLIE), CHARLIE)
    bravo, alpha = await make_pair(nursery, make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO), charlie)
    reason = await reason_of(bravo)
    assert (
        reason == "TLS failure: wrong node ID: the peer says it is dtn://alpha/, its certificate names dtn://charlie/"
    )
    assert_nothing_passed(bravo, alpha)


async def test_a_listener_with_another_nodes_certificate_is_refused(
    nursery: trio.Nursery, tmp_path: Path, pki: MissionPki
) -> None:
    charlie = make_identity(pki.write(tmp_path / "c", CHARLIE), CHARLIE)
    bravo, alpha = await make_pair(nursery, charlie, make_identity(pki.write(tmp_path / "a", ALPHA), ALPHA))
    assert "wrong node ID: the peer says it is dtn://bravo/" in await reason_of(alpha)
    # Bravo has taken alpha's SESS_INIT before it is told: the session ends at once.
    await bravo.recorder.until(
        lambda: any(
            kind in ("session.ended", "session.failed", "session.refused") for kind, _ in bravo.recorder.reports
        )
    )
    assert alpha.recorder.all(LinkUp) == []
    assert bravo.received() == []


async def test_a_node_of_the_mission_that_is_no_neighbour_is_refused(
    nursery: trio.Nursery, tmp_path: Path, pki: MissionPki
) -> None:
    charlie = make_identity(pki.write(tmp_path / "c", CHARLIE), CHARLIE)
    own = make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO)
    bravo, alpha = await make_pair(nursery, own, charlie, names=(BRAVO, CHARLIE))
    assert "dtn://charlie/ is not welcome here" in await reason_of(bravo)
    assert_nothing_passed(bravo, alpha)


@pytest.mark.parametrize("refuser", ["listener", "dialler"])
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("expired", "has expired"),
        ("not yet valid", "is not yet valid"),
        ("unknown CA", "unknown CA"),
        ("revoked", "is revoked"),
        ("revoked by a stale list", "is revoked"),
    ],
)
async def test_a_bad_certificate_is_refused_on_either_side(
    nursery: trio.Nursery, tmp_path: Path, pki: MissionPki, refuser: str, case: str, expected: str
) -> None:
    good_node, bad_node = (BRAVO, ALPHA) if refuser == "listener" else (ALPHA, BRAVO)
    match case:
        case "expired":
            bad = pki.write(tmp_path / "bad", bad_node, begin=pki.now - 3 * DAY, lifetime=DAY)
        case "not yet valid":
            bad = pki.write(tmp_path / "bad", bad_node, begin=pki.now + DAY)
        case "unknown CA":
            other = MissionPki(name="mission", now=pki.now)
            bad = other.write(tmp_path / "bad", bad_node, revoked=None, ca_pem=pki.ca_pem)
        case _:
            bad = pki.write(tmp_path / "bad", bad_node)
    revoked = (pki.serial,) if case.startswith("revoked") else ()
    crl_lifetime = timedelta(seconds=-60) if "stale" in case else DAY
    good = pki.write(tmp_path / "good", good_node, revoked=revoked, crl_lifetime=crl_lifetime)
    identities = {good_node: make_identity(good, good_node), bad_node: make_identity(bad, bad_node)}
    bravo, alpha = await make_pair(nursery, identities[BRAVO], identities[ALPHA])
    refusing = bravo if refuser == "listener" else alpha
    reason = await reason_of(refusing)
    assert reason.startswith("TLS failure: ")
    assert expected in reason
    assert_nothing_passed(bravo, alpha)


async def test_the_refused_side_is_told_why(nursery: trio.Nursery, tmp_path: Path, pki: MissionPki) -> None:
    bad = pki.write(tmp_path / "a", ALPHA, begin=pki.now - 3 * DAY, lifetime=DAY)
    good = pki.write(tmp_path / "b", BRAVO)
    _, alpha = await make_pair(nursery, make_identity(good, BRAVO), make_identity(bad, ALPHA))
    assert "our certificate has expired" in await reason_of(alpha, "session.failed", "session.refused")


async def test_a_stale_list_locks_nobody_out(nursery: trio.Nursery, tmp_path: Path, pki: MissionPki) -> None:
    stale = pki.write(tmp_path / "b", BRAVO, crl_lifetime=timedelta(seconds=-60))
    own = make_identity(stale, BRAVO)
    assert "should have been replaced" in own.warn()[0]
    _, alpha = await make_pair(nursery, own, make_identity(pki.write(tmp_path / "a", ALPHA), ALPHA))
    await alpha.recorder.wait_for(LinkUp)


async def test_the_time_floor_counts_where_the_clock_fell_behind(
    nursery: trio.Nursery, tmp_path: Path, pki: MissionPki
) -> None:
    """The host believes that it is before the certificates began; what meshd knows of the time is later."""
    floor = pki.now + 30 * DAY
    files = {
        node: pki.write(tmp_path / name, node, begin=pki.now + 10 * DAY, lifetime=lifetime, crl_lifetime=90 * DAY)
        for node, name, lifetime in ((BRAVO, "b", 60 * DAY), (ALPHA, "a", 60 * DAY), (CHARLIE, "c", 5 * DAY))
    }
    identities = {node: make_identity(each, node, lambda: floor) for node, each in files.items()}
    _, alpha = await make_pair(nursery, identities[BRAVO], identities[ALPHA])
    await alpha.recorder.wait_for(LinkUp)
    other, _ = await make_pair(nursery, identities[BRAVO], identities[CHARLIE])
    assert "certificate has expired" in await reason_of(other)


@pytest.mark.parametrize("refuser", ["listener", "dialler"])
async def test_plain_text_is_refused_where_tls_is_required(
    nursery: trio.Nursery, tmp_path: Path, pki: MissionPki, refuser: str
) -> None:
    node = BRAVO if refuser == "listener" else ALPHA
    own = make_identity(pki.write(tmp_path / "x", node), node)
    if refuser == "listener":
        bravo, alpha = await make_pair(nursery, own, None, (TlsPolicy.REQUIRE, TlsPolicy.NEVER))
    else:
        bravo, alpha = await make_pair(nursery, None, own, (TlsPolicy.NEVER, TlsPolicy.REQUIRE))
    refusing, refused = (bravo, alpha) if refuser == "listener" else (alpha, bravo)
    assert await reason_of(refusing) == "TLS failure: TLS is required here, and the peer offers plain text only"
    assert "contact failure" in await reason_of(refused, "session.failed", "session.refused")
    assert_nothing_passed(bravo, alpha)


@pytest.mark.parametrize(
    ("policies", "is_secured"),
    [
        ((TlsPolicy.OPPORTUNISTIC, TlsPolicy.OPPORTUNISTIC), True),
        ((TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRE), True),
        ((TlsPolicy.OPPORTUNISTIC, TlsPolicy.NEVER), False),
        ((TlsPolicy.NEVER, TlsPolicy.OPPORTUNISTIC), False),
        ((TlsPolicy.NEVER, TlsPolicy.NEVER), False),
    ],
)
async def test_policies_meet(
    nursery: trio.Nursery,
    tmp_path: Path,
    pki: MissionPki,
    policies: tuple[TlsPolicy, TlsPolicy],
    is_secured: bool,
) -> None:
    own = make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO)
    other = make_identity(pki.write(tmp_path / "a", ALPHA), ALPHA)
    _, alpha = await make_pair(nursery, own, other, policies)
    fields = await alpha.recorder.wait_for_report("session.established")
    assert (fields["tls"] != "none") == is_secured


async def test_no_certificate_is_refused(nursery: trio.Nursery, tmp_path: Path, pki: MissionPki) -> None:
    own = make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO)
    bravo = await Side(BRAVO, ALPHA, None, own).start(nursery)
    peer = TlsPeer(bravo.bearer.bound_address, make_foreign_context(None))
    said = await trio.to_thread.run_sync(peer.talk)
    assert "alert certificate required" in said
    assert await reason_of(bravo) == "TLS failure: the peer has no certificate"
    assert_nothing_passed(bravo)


async def test_tls_1_2_is_refused(nursery: trio.Nursery, tmp_path: Path, pki: MissionPki) -> None:
    own = make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO)
    bravo = await Side(BRAVO, ALPHA, None, own).start(nursery)
    foreign = make_foreign_context(pki.write(tmp_path / "a", ALPHA), ssl.TLSVersion.TLSv1_2)
    said = await trio.to_thread.run_sync(TlsPeer(bravo.bearer.bound_address, foreign).talk)
    assert "protocol version" in said
    assert await reason_of(bravo) == "TLS failure: the peer offers no TLS 1.3"
    assert_nothing_passed(bravo)


async def test_a_foreign_node_with_a_good_certificate_is_welcome(
    nursery: trio.Nursery, tmp_path: Path, pki: MissionPki
) -> None:
    own = make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO)
    bravo = await Side(BRAVO, ALPHA, None, own).start(nursery)
    foreign = make_foreign_context(pki.write(tmp_path / "a", ALPHA))
    said = await trio.to_thread.run_sync(TlsPeer(bravo.bearer.bound_address, foreign).talk)
    assert said.startswith("got b'\\x07")  # SESS_INIT
    await bravo.recorder.wait_for(LinkUp)


@pytest.mark.parametrize(
    ("follows", "expected"),
    [
        (pack_session_init(SessionInit(15, 1 << 20, 1 << 20, ALPHA)), "the peer goes on in plain text"),
        (b"\x16\x03\x01\xff\xff" + bytes(20_000), "TLS"),
    ],
)
async def test_what_is_no_tls_is_refused(
    nursery: trio.Nursery, tmp_path: Path, pki: MissionPki, follows: bytes, expected: str
) -> None:
    own = make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO)
    bravo = await Side(BRAVO, ALPHA, None, own).start(nursery)
    assert bravo.bearer.bound_address is not None
    host, _, port = bravo.bearer.bound_address.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        await stream.send_all(CONTACT_HEADER_TLS + follows)
        assert expected in await reason_of(bravo)
    assert_nothing_passed(bravo)


async def test_a_handshake_that_never_ends_is_given_up(
    nursery: trio.Nursery, tmp_path: Path, pki: MissionPki, mock_clock: trio.testing.MockClock
) -> None:
    own = make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO)
    bravo = await Side(BRAVO, ALPHA, None, own).start(nursery)
    assert bravo.bearer.bound_address is not None
    host, _, port = bravo.bearer.bound_address.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        await stream.send_all(CONTACT_HEADER_TLS)
        assert await stream.receive_some() == CONTACT_HEADER_TLS
        await stream.send_all(b"\x16\x03")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(30)
        reason = await reason_of(bravo, "session.failed")
        assert "no session within 30 s, the peer stopped at its TLS handshake" in reason


async def test_silence_stops_a_handshake_and_its_end_goes_on(
    nursery: trio.Nursery, tmp_path: Path, pki: MissionPki
) -> None:
    own = make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO)
    bravo = await Side(BRAVO, ALPHA, None, own).start(nursery)
    peer = await Peer.dial(bravo.bearer.bound_address, ALPHA)
    async with peer.stream:
        await peer.stream.send_all(CONTACT_HEADER_TLS)
        assert await peer.stream.receive_some() == CONTACT_HEADER_TLS
        await trio.testing.wait_all_tasks_blocked()
        bravo.bearer.freeze()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = make_foreign_context(pki.write(tmp_path / "a", ALPHA))
        tls = context.wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        await peer.stream.send_all(outgoing.read())
        with trio.move_on_after(0.05) as scope:
            await peer.stream.receive_some()
        assert scope.cancelled_caught
        bravo.bearer.thaw()
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    incoming.write(await peer.stream.receive_some())
        await peer.stream.send_all(outgoing.read())


async def test_a_new_identity_counts_for_new_sessions(nursery: trio.Nursery, tmp_path: Path, pki: MissionPki) -> None:
    own = make_identity(pki.write(tmp_path / "b", BRAVO), BRAVO)
    bravo, alpha = await make_pair(nursery, own, make_identity(pki.write(tmp_path / "a", ALPHA), ALPHA))
    await bravo.recorder.wait_for(LinkUp)
    serial = pki.serial
    bravo.bearer.set_identity(make_identity(pki.write(tmp_path / "b2", BRAVO, revoked=(serial,)), BRAVO))
    await trio.testing.wait_all_tasks_blocked()
    assert bravo.recorder.all(LinkDown) == []
    foreign = await trio.open_tcp_stream("127.0.0.1", int(str(bravo.bearer.bound_address).rpartition(":")[2]))
    await foreign.aclose()
    again = await Side(ALPHA, BRAVO, bravo.bearer.bound_address, alpha.bearer._tls).start(nursery)
    assert "is revoked" in await reason_of(bravo)
    assert again.recorder.all(LinkUp) == []


async def test_a_plain_contact_header_is_what_never_means(nursery: trio.Nursery) -> None:
    bravo = await Side(BRAVO, ALPHA, None, None, TlsPolicy.NEVER).start(nursery)
    peer = await Peer.dial(bravo.bearer.bound_address, ALPHA)
    async with peer.stream:
        await peer.stream.send_all(CONTACT_HEADER_TLS)
        assert await peer.stream.receive_some() == CONTACT_HEADER


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        ("node.pem", "has no readable certificate"),
        ("node.key", "can't be used together"),
        ("ca.pem", "ca.pem has no readable certificate"),
        ("crl.pem", "crl.pem has no revocation list"),
    ],
)
def test_files_that_can_not_be_used_are_named(tmp_path: Path, pki: MissionPki, spoil: str, expected: str) -> None:
    files = pki.write(tmp_path / "b", BRAVO)
    (tmp_path / "b" / spoil).write_bytes(b"nonsense")
    with pytest.raises(SettingsError, match=expected):
        make_identity(files, BRAVO)
    (tmp_path / "b" / spoil).unlink()
    with pytest.raises(SettingsError, match=f"{spoil} can't be read|can't be read"):
        make_identity(files, BRAVO)


def test_another_nodes_certificate_and_another_key_are_refused(tmp_path: Path, pki: MissionPki) -> None:
    files = pki.write(tmp_path / "b", BRAVO)
    with pytest.raises(SettingsError, match=r"names dtn://bravo/, but this node is dtn://alpha/"):
        make_identity(files, ALPHA)
    other = pki.write(tmp_path / "a", ALPHA)
    mixed = TlsSettings(files.certificate, other.key, files.ca, None)
    with pytest.raises(SettingsError, match=r"can't be used together .*key values mismatch"):
        make_identity(mixed, BRAVO)


def test_our_own_expired_certificate_is_warned_of(tmp_path: Path, pki: MissionPki) -> None:
    files = pki.write(tmp_path / "b", BRAVO, begin=pki.now - 3 * DAY, lifetime=DAY)
    assert "this node's certificate has expired" in make_identity(files, BRAVO).warn()[0]
