# SPDX-License-Identifier: Apache-2.0
"""Acknowledgement tags: the two who share an object understand each other, and nobody can speak for another."""

from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid, parse_eid
from meshd.security.link_keys import LinkKeys
from meshd.security.pairwise import TAG_BYTES, PairwiseKeys, Verdict

SENDER, RECEIVER, THIRD = (parse_eid(f"dtn://dpop{number}/") for number in (1, 2, 3))
PRIVATE = {node: X25519PrivateKey.from_private_bytes(node.uri.encode().ljust(32)) for node in (SENDER, RECEIVER, THIRD)}
PUBLIC = {node: key.public_key().public_bytes_raw() for node, key in PRIVATE.items()}
KEYS = LinkKeys({1: b"\x01" * 32, 2: b"\x02" * 32}, 2)
OBJECT, DIGEST = b"object-1", b"d" * 32


def keys_of(node: Eid) -> PairwiseKeys:
    return PairwiseKeys(node, PRIVATE[node], PUBLIC, KEYS)


@dataclass(frozen=True)
class Said:
    """What SENDER checks a tag for."""

    peer: Eid = RECEIVER
    epoch: int = 2
    verdict: Verdict = Verdict.TAKEN
    object_id: bytes = OBJECT
    digest: bytes = DIGEST


def is_good(tag: bytes, said: Said) -> bool:
    return keys_of(SENDER).is_tag_good(tag, said.peer, said.epoch, said.verdict, said.object_id, said.digest)


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("epoch", [1, 2])
def test_what_the_receiver_says_is_understood(verdict: Verdict, epoch: int) -> None:
    tag = keys_of(RECEIVER).make_tag(SENDER, epoch, verdict, OBJECT, DIGEST)
    assert len(tag) == TAG_BYTES
    assert is_good(tag, Said(epoch=epoch, verdict=verdict))


@pytest.mark.parametrize(
    "other",
    [
        Said(peer=THIRD),
        Said(epoch=1),
        Said(epoch=3),
        Said(verdict=Verdict.REFUSED),
        Said(object_id=b"object-2"),
        Said(digest=b"e" * 32),
        Said(object_id=OBJECT + b"d", digest=DIGEST[1:]),
        Said(peer=SENDER),
        Said(peer=parse_eid("dtn://stranger/")),
    ],
)
def test_a_tag_says_one_thing_only(other: Said) -> None:
    tag = keys_of(RECEIVER).make_tag(SENDER, 2, Verdict.TAKEN, OBJECT, DIGEST)
    assert is_good(tag, Said())
    assert not is_good(tag, other)


def test_a_third_member_cant_acknowledge_for_another() -> None:
    """It has every public key, the link keys, and a private key of its own."""
    third = keys_of(THIRD)
    assert not is_good(third.make_tag(SENDER, 2, Verdict.TAKEN, OBJECT, DIGEST), Said())
    posing = PairwiseKeys(RECEIVER, PRIVATE[THIRD], PUBLIC | {RECEIVER: PUBLIC[THIRD]}, KEYS)
    assert not is_good(posing.make_tag(SENDER, 2, Verdict.TAKEN, OBJECT, DIGEST), Said())


def test_the_sender_does_not_take_its_own_tag_for_the_receivers() -> None:
    assert not is_good(keys_of(SENDER).make_tag(RECEIVER, 2, Verdict.TAKEN, OBJECT, DIGEST), Said())


@pytest.mark.parametrize("tag", [b"", bytes(8), bytes(32)])
def test_no_tag_is_no_tag(tag: bytes) -> None:
    assert not is_good(tag, Said())


def test_a_roll_of_the_link_key_changes_tags_and_ends_old_ones() -> None:
    sender, receiver = keys_of(SENDER), keys_of(RECEIVER)
    before = receiver.make_tag(SENDER, 2, Verdict.TAKEN, OBJECT, DIGEST)
    rolled = LinkKeys({2: b"\x07" * 32}, 2)
    sender.roll(rolled)
    assert not sender.is_tag_good(before, RECEIVER, 2, Verdict.TAKEN, OBJECT, DIGEST)
    receiver.roll(rolled)
    after = receiver.make_tag(SENDER, 2, Verdict.TAKEN, OBJECT, DIGEST)
    assert sender.is_tag_good(after, RECEIVER, 2, Verdict.TAKEN, OBJECT, DIGEST)


@pytest.mark.parametrize("peers", [{}, {SENDER: PUBLIC[THIRD]}])
def test_a_node_whose_own_key_is_another_in_the_list_is_refused(peers: dict[Eid, bytes]) -> None:
    with pytest.raises(SettingsError, match="public key of dtn://dpop1/"):
        PairwiseKeys(SENDER, PRIVATE[SENDER], peers, KEYS)


def test_a_public_key_that_gives_everybody_the_same_secret_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"dtn://dpop2/ in link\.peers is none"):
        PairwiseKeys(SENDER, PRIVATE[SENDER], PUBLIC | {RECEIVER: bytes(32)}, KEYS)
