# SPDX-License-Identifier: Apache-2.0
"""Sealing: the bytes that anybody would make of it, and no nonce twice whatever is killed, restored or set back."""

import random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from meshd.base.errors import LocalProtocolError
from meshd.bundle.eid import Eid
from meshd.cl.fountain.datagram import SEAL_BYTES
from meshd.cl.fountain.sealer import Sealer
from meshd.security.boot_number import (
    CLOCK_FLOOR_S,
    BootNumberError,
    DurableBootNumber,
    choose_boot_number,
    pack_boot_number,
    parse_boot_number_untrusted,
)
from meshd.security.link_keys import LinkKeys
from meshd.security.replay_window import COUNTER_MAX
from tests.unit.cl.fountain.sealed_pair import BEARER, HERE, KEYS, ROLLED, THERE, make_sealer


def derive(link_key: bytes, *names: str) -> bytes:
    info = b"".join(len(name).to_bytes(4) + name.encode() for name in names)
    return HKDF(SHA256(), 32, None, info).derive(link_key)


def unmask(datagram: bytes, link_key: bytes, bearer: str = BEARER) -> bytes:
    """The header, by RFC 9001 section 5.4.3: AES in ECB mode over the sample."""
    mask_key = derive(link_key, "meshd fountain header", bearer)
    mask = Cipher(algorithms.AES(mask_key), modes.ECB()).encryptor().update(datagram[12:28])
    return bytes(one ^ two for one, two in zip(datagram[:12], mask, strict=False))


def nonce_of(datagram: bytes, keys: LinkKeys) -> tuple[bytes, bytes]:
    """Key and nonce under which a datagram was sealed; fails if it was not."""
    for link_key in keys.keys.values():
        header = unmask(datagram, link_key)
        if header[:2] == make_sealer().index.to_bytes(2):
            return link_key, header
    raise AssertionError


def test_a_datagram_has_these_bytes() -> None:
    datagram = make_sealer(boot=0x01020304).seal(b"frames")
    header = unmask(datagram, b"\x01" * 32)
    assert header == make_sealer().index.to_bytes(2) + bytes.fromhex("01020304 000000000001")
    key = derive(b"\x01" * 32, "meshd fountain datagram", "dtn://dpop2/", BEARER)
    assert AESGCM(key).decrypt(header, datagram[12:], None) == b"frames"
    assert len(datagram) == len(b"frames") + SEAL_BYTES == len(b"frames") + 28


def test_every_datagram_has_the_next_counter() -> None:
    sealer = make_sealer(boot=9)
    headers = []
    for counter in (1, 2, 3):
        assert sealer.next_counter == counter
        headers.append(unmask(sealer.seal(b"x"), b"\x01" * 32))
    assert [int.from_bytes(header[6:]) for header in headers] == [1, 2, 3]
    assert {header[:6] for header in headers} == {make_sealer().index.to_bytes(2) + (9).to_bytes(4)}


def test_a_roll_changes_the_key_and_goes_on_counting() -> None:
    sealer = make_sealer(keys=ROLLED)
    assert sealer.epoch == 2
    sealer.seal(b"x")
    sealer.roll(KEYS)
    assert sealer.epoch == 1
    assert int.from_bytes(unmask(sealer.seal(b"x"), b"\x01" * 32)[6:]) == 2


def test_listeners_see_nothing_that_stays() -> None:
    """Same frames, same sender: no byte of the header is the same in all of 64 datagrams."""
    sealer = make_sealer()
    datagrams = [sealer.seal(b"frames") for _ in range(64)]
    assert all(len({datagram[place] for datagram in datagrams}) > 1 for place in range(len(datagrams[0])))


def test_senders_and_bearers_and_epochs_have_keys_of_their_own() -> None:
    """Same nonce otherwise: were the key the same, so would be the sealed part but for the index."""
    sealers = [
        make_sealer(),
        make_sealer(HERE),
        make_sealer(bearer="los0"),
        make_sealer(keys=ROLLED),
    ]
    assert len({sealer._aead.encrypt(bytes(12), b"frames", None) for sealer in sealers}) == 4


def test_a_used_up_counter_ends_sealing() -> None:
    sealer = make_sealer()
    sealer.next_counter = COUNTER_MAX
    sealer.seal(b"last")
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="used up"):
            sealer.seal(b"one more")


@pytest.mark.parametrize(
    ("boot", "counter", "is_ahead"), [(5, 1, False), (5, 2, True), (6, 1, True), (4, 9, False), (5, 0, False)]
)
def test_what_others_have_of_us_that_we_did_not_send_is_noticed(boot: int, counter: int, is_ahead: bool) -> None:
    sealer = make_sealer(boot=5)
    sealer.seal(b"x")
    assert sealer.is_ahead(boot, counter) == is_ahead


class Host:
    """A node's disk and clock; the shell around the sealer, as short as it can be."""

    def __init__(self) -> None:
        self.disk: bytes | None = None
        self.utc_s: int | None = CLOCK_FLOOR_S + 1000
        self.used: list[tuple[bytes, bytes]] = []

    def start(self, node: Eid = THERE, *, is_killed_before_sync: bool = False) -> Sealer | None:
        saved = None if self.disk is None else parse_boot_number_untrusted(self.disk, "boot")
        number = choose_boot_number(saved, self.utc_s)
        if is_killed_before_sync:
            return None
        self.disk = pack_boot_number(number)
        return Sealer(node, BEARER, KEYS, DurableBootNumber(number))

    def send(self, sealer: Sealer, count: int = 3) -> None:
        self.used += [nonce_of(sealer.seal(b"x"), KEYS) for _ in range(count)]

    def run(self) -> None:
        """Start, send, be killed: nothing else is saved."""
        sealer = self.start()
        assert sealer is not None
        self.send(sealer)

    def assert_fresh(self) -> None:
        assert len(self.used) == len(set(self.used)), "a nonce came twice"


def test_no_nonce_repeats_after_a_kill_at_any_moment() -> None:
    host = Host()
    for is_killed_before_sync in (False, True, False, True, True, False):
        host.start(is_killed_before_sync=is_killed_before_sync)
        host.run()
    host.assert_fresh()
    assert len(host.used) == 18


@pytest.mark.parametrize("utc_s", [None, 0, CLOCK_FLOOR_S, CLOCK_FLOOR_S + 500])
def test_no_nonce_repeats_after_the_clock_jumped_back(utc_s: int | None) -> None:
    host = Host()
    host.run()
    host.utc_s = utc_s
    host.run()
    host.run()
    host.assert_fresh()


@pytest.mark.parametrize("old", [None, pack_boot_number(5), pack_boot_number(CLOCK_FLOOR_S + 1000)])
def test_no_nonce_repeats_on_an_old_disk_with_a_right_clock(old: bytes | None) -> None:
    host = Host()
    for _ in range(4):
        host.run()
    assert host.utc_s is not None
    host.utc_s += 100
    host.disk = old
    host.run()
    host.assert_fresh()


def test_nothing_is_sent_when_disk_and_clock_are_lost_until_enrolled_anew() -> None:
    host = Host()
    host.run()
    host.disk, host.utc_s = None, 0
    with pytest.raises(BootNumberError):
        host.start()
    host.disk = pack_boot_number(CLOCK_FLOOR_S + 2000)  # link.boot of a new issue
    host.run()
    host.assert_fresh()


def test_an_old_disk_and_a_clock_that_is_behind_are_noticed_from_outside() -> None:
    """The one case that a node can't know: its neighbours' reports tell it."""
    host = Host()
    first = host.start()
    assert first is not None
    old = host.disk
    host.run()
    host.disk, host.utc_s = old, 0
    again = host.start()
    assert again is not None
    reported = host.used[-1][1]
    assert again.is_ahead(int.from_bytes(reported[2:6]), int.from_bytes(reported[6:]))


@pytest.mark.parametrize("seed", range(10))
def test_no_nonce_repeats_in_any_order_of_mishaps(seed: int) -> None:
    rng = random.Random(seed)
    host = Host()
    true_s = CLOCK_FLOOR_S
    disks: list[bytes | None] = [None]
    is_old_disk = True
    for _ in range(60):
        true_s += rng.randint(2, 100)
        host.utc_s = true_s
        if rng.random() < 0.3:
            host.disk, is_old_disk = rng.choice(disks), True
        elif not is_old_disk and rng.random() < 0.5:
            host.utc_s = rng.choice((None, 0, true_s - 1000))
        if rng.random() < 0.3:
            host.start(is_killed_before_sync=True)
            continue
        host.run()
        is_old_disk = False
        disks.append(host.disk)
    host.assert_fresh()
    assert len(host.used) > 60
