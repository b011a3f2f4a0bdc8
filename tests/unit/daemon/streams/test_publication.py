# SPDX-License-Identifier: Apache-2.0
"""A publisher: what its manifests say when, what it does with bad input, and what a restart makes of it."""

from pathlib import Path

import msgspec
import pytest

from meshd.daemon.streams.ingest import InputWatch
from meshd.daemon.streams.post import Letter
from meshd.daemon.streams.publication import WAITING_MAX
from meshd.stream.announcement import Announcement
from meshd.stream.manifest import Manifest
from meshd.stream.payload import decode_payload_untrusted
from meshd.stream.piece import Piece, Tier
from tests.unit.daemon.streams.stream_world import Node, World, clip
from tests.unit.stream.ts_muxer import Muxer

DATA = clip(8)


def sent(node: Node) -> list[object]:
    """What is under way."""
    return [decode_payload_untrusted(letter.data) for letter, _ in node.post.letters]


async def test_a_manifest_is_sent_when_its_pieces_are_on_the_disk(tmp_path: Path) -> None:
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    publication = alpha.publish(bravo)
    for pos in range(0, len(DATA), 1316):
        world.now += 0.02
        publication.tick(world.now)
        publication.feed(DATA[pos : pos + 1316], world.now)
    kinds = [type(content) for content in sent(alpha)]
    assert Piece in kinds
    assert Manifest not in kinds
    await world.write()
    manifests = [content for content in sent(alpha) if isinstance(content, Manifest)]
    announced = [content for content in sent(alpha) if isinstance(content, Announcement)]
    assert [manifest.span for manifest in manifests] == list(range(len(manifests)))
    assert announced[-1].spans == len(manifests) > 0


@pytest.mark.parametrize("tiers_max", list(Tier))
async def test_only_these_tiers_are_sent_live_and_all_are_archived(tmp_path: Path, tiers_max: Tier) -> None:
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    publication = alpha.publish(bravo, tiers_max=tiers_max)
    live: set[int] = set()

    def note(letter: Letter) -> bool:
        content = decode_payload_untrusted(letter.data)
        if isinstance(content, Piece) and letter.live is not None:
            live.add(content.tier)
        return False

    world.loses = note
    bravo.holders = [alpha.id]
    await world.feed(publication, DATA)
    await world.finish(publication)
    assert live == set(range(tiers_max + 1))
    await world.fill(bravo)
    assert bravo.recording() == DATA


async def test_when_the_node_does_not_keep_up_the_rest_is_not_sent_live(tmp_path: Path) -> None:
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    publication = alpha.publish(bravo)
    alpha.post._sent.update(dict.fromkeys(range(WAITING_MAX[Tier.REST])))
    publication.feed(DATA, world.now)
    tiers = {content.tier for content in sent(alpha) if isinstance(content, Piece)}
    assert tiers == {Tier.METADATA, Tier.KEY_FRAMES}
    assert publication.unsent_pieces > 0


@pytest.mark.parametrize("is_told_to_stop", [True, False])
async def test_a_restart_ends_the_stream_where_its_archive_ends(tmp_path: Path, is_told_to_stop: bool) -> None:
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    bravo.holders = [alpha.id]
    publication = alpha.publish(bravo)
    await world.feed(publication, DATA)
    if is_told_to_stop:
        await alpha.streams.close()
        world.deliver()
    else:
        alpha.start()
        assert "stream.ended" in alpha.kinds()
    await world.write()
    world.deliver()
    await world.write()
    assert alpha.streams.find("uav1") == publication.stream
    await world.fill(bravo)
    assert bravo.reception().is_complete
    recorded = bravo.recording()
    # What had not been cut yet when the node was killed is not on its disk.
    assert DATA.startswith(recorded)
    assert len(DATA) - len(recorded) < (1 if is_told_to_stop else 32_000)


async def test_what_was_running_is_wanted_after_a_restart_and_what_was_stopped_is_not(tmp_path: Path) -> None:
    world = World(tmp_path, "alpha")
    (alpha,) = world.nodes.values()
    publication = alpha.publish()
    terms = publication.about.terms
    assert terms is not None
    publication.about = msgspec.structs.replace(publication.about, terms=msgspec.structs.replace(terms, is_wanted=True))
    alpha.library.save(publication.about)
    await alpha.streams.close()
    alpha.start()
    (wanted,) = alpha.streams.take_wanted()
    assert wanted.announcement.name == "uav1"
    assert alpha.streams.take_wanted() == []
    await alpha.library.close()
    alpha.start()
    assert alpha.streams.take_wanted() == []


BAD_INPUTS = {
    "garbage": b"no transport stream " * 3000,
    "corrupt": bytes(byte ^ (0xFF if pos % 997 == 0 else 0) for pos, byte in enumerate(DATA)),
    "without tables": b"".join(Muxer().frame(number % 15 == 0) for number in range(90)),
    "tables change": b"".join(
        Muxer().tables([(0x1B, pid, b"")], version) + Muxer().second(frames=6)
        for version, pid in ((0, 0x100), (1, 0x200), (2, 0x101))
    ),
    "clock jumps": b"".join(Muxer(pcr=pcr).second(frames=6) for pcr in (0, 10**12, 5, 2**33 * 300 - 20_000_000)),
    "cut in the middle": DATA[100:50_000] + DATA[90_001:200_003],
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
async def test_bad_input_is_archived_bit_for_bit(tmp_path: Path, kind: str) -> None:
    data = BAD_INPUTS[kind]
    world = World(tmp_path, "alpha", "bravo")
    alpha, bravo = world.nodes.values()
    publication = alpha.publish(bravo)
    await world.feed(publication, data)
    await world.finish(publication)
    await world.fill(bravo)
    assert bravo.recording() == data


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"", "nothing comes in"), (BAD_INPUTS["garbage"], "no MPEG"), (BAD_INPUTS["without tables"], "PAT and PMT")],
)
def test_people_are_told_of_bad_input_and_of_good(tmp_path: Path, data: bytes, why: str) -> None:
    world = World(tmp_path, "alpha")
    (alpha,) = world.nodes.values()
    publication = alpha.publish()
    events: list[tuple[str, object]] = []
    watch = InputWatch(publication, lambda kind, fields: events.append((kind, fields.get("reason"))))
    now = watch._looked_at
    publication.feed(data, world.now)
    watch.look(now + 1.0)
    assert events == []
    watch.look(now + 3.0)
    watch.look(now + 6.0 if not data else now + 4.0)
    ((kind, reason),) = events
    assert kind == "stream.input_alarm"
    assert why in str(reason)
    publication.feed(DATA, world.now)
    watch.look(now + 60.0)
    assert events[-1] == ("stream.input_good", None)
    assert watch.problem is None
