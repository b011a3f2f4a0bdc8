# SPDX-License-Identifier: Apache-2.0
"""What is received is archived, and filled until it is what was ingested, bit for bit."""

import random
from pathlib import Path

import msgspec

from meshd.daemon.streams.post import Letter
from meshd.stream.gap_fill import FillRequest
from meshd.stream.manifest import Manifest
from meshd.stream.payload import decode_payload_untrusted
from meshd.stream.piece import Piece, encode_piece
from tests.unit.daemon.streams.stream_world import World, clip

DATA = clip(8)


async def test_without_losses_nothing_is_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    asked: list[Letter] = []
    publication = alpha.publish(bravo)

    def note(letter: Letter) -> bool:
        asked.extend([letter] if isinstance(decode_payload_untrusted(letter.data), FillRequest) else [])
        return False

    world.loses = note
    await world.feed(publication, DATA)
    await world.finish(publication)
    bravo.holders = [alpha.id]
    await world.fill(bravo)
    assert bravo.reception().is_complete
    assert bravo.recording() == DATA
    assert asked == []


async def test_what_was_lost_is_filled(tmp_path: Path) -> None:
    rng = random.Random(1)
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    bravo.holders = [alpha.id]
    publication = alpha.publish(bravo)
    world.deliver()

    def loses(letter: Letter) -> bool:
        content = decode_payload_untrusted(letter.data)
        is_lost_manifest = isinstance(content, Manifest) and content.span == 1
        return is_lost_manifest or (isinstance(content, Piece) and rng.random() < 0.3)

    world.loses = loses
    await world.feed(publication, DATA)
    await world.finish(publication)
    assert bravo.reception().missing_pieces
    assert not bravo.reception().is_complete
    world.loses = lambda letter: False
    await world.fill(bravo)
    assert bravo.reception().is_complete
    assert bravo.recording() == DATA
    assert bravo.reception().filled_pieces


async def test_a_restart_of_the_receiver_loses_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    bravo.holders = [alpha.id]
    publication = alpha.publish(bravo)
    await world.feed(publication, DATA[: len(DATA) // 3])
    bravo.start()  # as killed: what was not on the disk is gone
    assert bravo.streams.find("uav1") == publication.stream
    world.loses = lambda letter: True
    await world.feed(publication, DATA[len(DATA) // 3 : len(DATA) // 2])
    world.loses = lambda letter: False
    bravo.start()
    await world.feed(publication, DATA[len(DATA) // 2 :])
    await world.finish(publication)
    await world.fill(bravo)
    assert bravo.reception().is_complete
    assert bravo.recording() == DATA
    whole = bravo.reception().whole_spans
    bravo.start()
    assert bravo.reception().is_complete
    assert bravo.reception().whole_spans == whole


async def test_a_silent_receiver_asks_for_nothing_until_it_may(tmp_path: Path) -> None:
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    bravo.holders = [alpha.id]
    bravo.may_send = False
    publication = alpha.publish(bravo)
    world.deliver()
    number = 0

    def loses_each_third(letter: Letter) -> bool:
        nonlocal number
        number += letter.live is not None
        return letter.live is not None and number % 3 == 0

    world.loses = loses_each_third
    await world.feed(publication, DATA)
    await world.finish(publication)
    await world.fill(bravo, rounds=3)
    assert not bravo.post.letters
    assert bravo.reception().missing_pieces
    bravo.may_send = True
    await world.fill(bravo)
    assert bravo.recording() == DATA


async def test_a_silent_publisher_records_and_fills_later(tmp_path: Path) -> None:
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    bravo.holders = [alpha.id]
    publication = alpha.publish(bravo)
    alpha.may_send = False
    await world.feed(publication, DATA)
    await world.finish(publication)
    assert publication.unsent_pieces
    assert all(letter.live is None for letter, _ in alpha.post.letters)
    alpha.may_send = True
    world.deliver()
    await world.fill(bravo)
    assert bravo.recording() == DATA


async def test_no_second_request_while_the_first_has_not_left(tmp_path: Path) -> None:
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    bravo.holders = [alpha.id]
    publication = alpha.publish(bravo)
    world.deliver()
    world.loses = lambda letter: letter.live is not None
    await world.feed(publication, DATA)
    for _ in range(5):
        world.now += 60.0
        bravo.reception().ask(world.now)
    assert len(bravo.post.letters) == 1
    bravo.post.letters.clear()
    bravo.reception().ask(world.now)
    assert len(bravo.post.letters) == 1


async def test_who_has_nothing_is_not_asked_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path, "alpha", "bravo", "near")
    alpha, bravo, near = world.nodes.values()
    bravo.holders = [near.id, alpha.id]
    publication = alpha.publish(bravo)
    world.deliver()
    asked: list[str] = []

    def note(letter: Letter) -> bool:
        if isinstance(decode_payload_untrusted(letter.data), FillRequest):
            asked.append(letter.destination.node.uri)
        return letter.live is not None

    world.loses = note
    await world.feed(publication, DATA)
    await world.finish(publication)
    await world.fill(bravo)
    assert asked[:2] == [near.id.uri, alpha.id.uri]
    assert bravo.recording() == DATA


async def test_a_piece_that_was_changed_on_the_way_is_replaced(tmp_path: Path) -> None:
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    bravo.holders = [alpha.id]
    publication = alpha.publish(bravo)
    world.deliver()
    spoilt: list[Piece] = []

    def spoil(data: bytes) -> bytes:
        content = decode_payload_untrusted(data)
        if spoilt or not isinstance(content, Piece) or content.sequence != 40:
            return data
        spoilt.append(content)
        return encode_piece(msgspec.structs.replace(content, body=content.body[::-1]))

    world.changes = spoil
    await world.feed(publication, DATA)
    await world.finish(publication)
    await world.fill(bravo)
    assert spoilt
    assert bravo.reception().wrong_pieces == 1
    assert bravo.recording() == DATA


async def test_a_disk_without_room_is_told_of_and_nobody_is_asked_for_more(tmp_path: Path) -> None:
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    bravo.holders = [alpha.id]
    bravo.quota_bytes = 50_000
    publication = alpha.publish(bravo)
    await world.feed(publication, DATA)
    await world.finish(publication)
    await world.fill(bravo, rounds=2)
    assert bravo.kinds().count("stream.alarm") == 1
    assert bravo.library.size_bytes <= 50_000
    assert not bravo.reception().is_complete
    bravo.quota_bytes = 1 << 30
    bravo.library.append(bravo.reception().archive, [])
    await world.write()
    assert "stream.archiving" in bravo.kinds()
    await world.fill(bravo)
    assert bravo.recording() == DATA
