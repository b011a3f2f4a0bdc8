# SPDX-License-Identifier: Apache-2.0
"""Fragmentation on demand and reassembly in the node (RFC 9171 sections 5.8 and 5.9)."""

from typing import Any

import pytest

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle.admin_record import Assertion, StatusReport, encode_status_report
from meshd.bundle.blocks import Bundle, BundleFlag, CanonicalBlock, PrimaryBlock
from meshd.bundle.codec import encode
from meshd.bundle.eid import parse_eid
from meshd.bundle.fragment import fragment, reassemble
from meshd.bundle.record import BundleId, BundleRecord, Part
from meshd.bundle.scan import scan_untrusted
from meshd.link.identity import LinkId
from meshd.link.settings import NeighbourSettings
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.bundle_table import URGENT_RESERVE, Room
from meshd.node.reassembly import RETRY_S
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.contact_router import ContactRouter
from meshd.routing.decision import Contraindicated, Forward, LinkView
from meshd.routing.settings import RouteSettings
from tests.unit.node.playbook import (
    DPOP2,
    HOME,
    HOUR_MS,
    INBOX,
    LAN,
    LAN_HOME,
    NEIGHBOURS,
    NODE,
    SAT,
    Playbook,
)

MTU = 400
DPOP3 = parse_eid("dtn://dpop3/")
BIG = bytes(range(256)) * 4


def make(play: Playbook, name: str, size_max_bytes: int = MTU, **changes: Any) -> list[str]:
    """A bundle in fragments, which get names such as `a0`."""
    data = play.bundle(name, changes.pop("destination", INBOX), **({"payload": BIG} | changes))
    names = []
    for index, piece in enumerate(fragment(data, scan_untrusted(data), size_max_bytes)):
        names.append(f"{name}{index}")
        play.data[names[-1]] = piece
        play.name(names[-1], scan_untrusted(piece).id)
    return names


def joined(play: Playbook, name: str, *fragments: str) -> ev.BundleReassembled:
    """The shell has joined the fragments."""
    return ev.BundleReassembled(play.id(name), reassemble([play.data[each] for each in fragments]))


def narrow(play: Playbook, mtu_bytes: int = MTU) -> None:
    """The link home comes up and takes little."""
    play.handle(ev.LinkUp(SAT, mtu_bytes))
    play.handle(ev.LinkWritable(SAT, 1_000_000))


# Fragmentation


def test_what_is_too_large_for_the_link_goes_in_fragments() -> None:
    play = Playbook()
    narrow(play)
    play.bundle("a", payload=BIG)
    (accept, wish) = play.take_in("a")
    assert accept == "accept lan0>dpop2 a"
    assert wish.startswith("fragment a ")
    assert int(wish.split()[2]) < MTU
    assert play.state("a") == "fragmenting"
    play.expect(play.cut(), "store put a+0 a+1 a+2 a+3 a+4")
    record = play.records[play.id("a+1")]
    assert (record.total_adu_bytes, record.previous_node) == (len(BIG), DPOP2)
    assert record.expiry_ms == play.now_ms + HOUR_MS
    assert play.state("a") == "fragmenting"
    names = [f"a+{index}" for index in range(5)]
    play.expect(play.stored(*names), "store delete a", f"send sat0>home {' '.join(names)}")
    play.expect(play.acknowledged(SAT, *names), f"store delete {' '.join(names)}")
    assert play.agent.entries() == []


def test_another_link_that_takes_it_whole_is_better() -> None:
    play = Playbook(neighbours=(NeighbourSettings(HOME, "lan0", None), *NEIGHBOURS))
    play.handle(ev.LinkUp(LAN_HOME, MTU))
    play.up(SAT)
    play.bundle("a", payload=BIG)
    assert play.take_in("a")[-1] == "send sat0>home a"


def test_what_must_not_be_fragmented_waits_for_another_way() -> None:
    play = Playbook()
    narrow(play)
    play.bundle("a", payload=BIG, flags=BundleFlag.MUST_NOT_FRAGMENT)
    play.take_in("a")
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert entry.state.value == "waiting"
    assert "must not be fragmented" in entry.reason
    play.handle(ev.LinkDown(SAT, "gone"))
    assert play.up(SAT) == ["send sat0>home a"]


def test_what_must_not_be_fragmented_goes_round() -> None:
    play = Playbook(
        neighbours=(NeighbourSettings(DPOP3, "lan0", None), *NEIGHBOURS), routes=(RouteSettings(HOME, DPOP3, ()),)
    )
    narrow(play)
    play.up(LinkId("lan0", DPOP3))
    play.bundle("a", payload=BIG, flags=BundleFlag.MUST_NOT_FRAGMENT)
    assert play.take_in("a")[-1] == "send lan0>dpop3 a"


def test_what_can_not_be_cut_waits() -> None:
    play = Playbook()
    narrow(play, 100)
    play.bundle("a", payload=BIG)
    play.take_in("a")
    play.expect(ev.BundleFragmented(play.id("a"), (), "too small"))
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert (entry.state.value, entry.reason) == ("waiting", "too small")
    assert play.wake_at is not None


def test_fragments_that_can_not_be_stored_leave_the_original() -> None:
    play = Playbook()
    narrow(play)
    play.bundle("a", payload=BIG)
    play.take_in("a")
    play.handle(play.cut())
    play.expect(play.not_stored(*(f"a+{index}" for index in range(5))))
    assert play.state("a") == "waiting"
    play.later(120)
    assert [line.split()[:2] for line in play.handle(ev.TimerFired())] == [["fragment", "a"]]


def test_a_crash_between_fragments_and_deletion_is_mended() -> None:
    play = Playbook()
    narrow(play)
    play.bundle("a", payload=BIG)
    play.take_in("a")
    event = play.cut()
    play.handle(event)
    records = list(play.records.values())
    other = Playbook()
    other._names, other._ids, other.data = play._names, play._ids, play.data
    other.handle(ev.StoreRecovered(records, (), {}))
    assert len(other.agent.entries()) == 6
    other.handle(ev.LinkUp(SAT, MTU))
    assert [type(command) for command in other.commands if isinstance(command, cmd.FragmentBundle)]
    other.expect(event, "store delete a")


def test_a_message_of_ours_is_forwarded_when_all_fragments_are() -> None:
    play = Playbook(part_bytes=2000)
    narrow(play)
    play.handle(play.submitted(data=BIG))
    play.handle(play.stored("own0"))
    play.handle(play.cut())
    names = [f"own0+{index}" for index in range(len(play.agent.entries()) - 1)]
    play.handle(play.stored(*names))
    play.handle(play.acknowledged(SAT, *names[1:]))
    assert play.message("own0").state.value == "queued"
    play.handle(play.acknowledged(SAT, names[0]))
    assert play.message("own0").state.value == "forwarded"


def test_parts_of_a_message_of_ours_are_fragmented_like_others() -> None:
    play = Playbook(part_bytes=len(BIG))
    narrow(play)
    play.handle(play.submitted(data=BIG, last=False))
    play.handle(play.stored("own0"))
    play.handle(play.submitted(data=b"end"))
    lines = play.handle(play.stored("own1"))
    assert lines[0] == "accepted 1 own0"
    assert lines[1].startswith("fragment own0 ")
    assert lines[2] == "send sat0>home own1"
    play.handle(play.cut())
    names = [f"own0+{index}" for index in range(len(play.agent.entries()) - 2)]
    assert {play.records[play.id(name)].part for name in names} == {Part(*play.id("own0")[1:3], 0, 0, False)}
    assert not any(play.records[play.id(name)].held for name in names)
    play.handle(play.stored(*names))
    play.handle(play.acknowledged(SAT, "own1", *names[1:]))
    assert play.message("own0").state.value == "queued"
    play.handle(play.acknowledged(SAT, names[0]))
    assert play.message("own0").state.value == "forwarded"


# A link that ends soon


class EndingRouter(ContactRouter):
    """Knows how much each link can still carry."""

    def __init__(self, **volumes_bytes: int) -> None:
        super().__init__(NODE, ContactPlan())
        self.volumes_bytes = volumes_bytes

    def choose_next_hops(self, record: BundleRecord, view: LinkView, now: float) -> Forward | Contraindicated:
        """Over all usable links."""
        links = tuple(view.usable_links(record.destination.node))
        if not links:
            return Contraindicated("no link", None)
        volumes = {link: self.volumes_bytes[link.bearer] for link in links if link.bearer in self.volumes_bytes}
        return Forward(links, volumes)


def ending(**volumes_bytes: int) -> Playbook:
    """Two links home, the better one on lan0."""
    play = Playbook(neighbours=(NeighbourSettings(HOME, "lan0", None), *NEIGHBOURS))
    play.agent.forwarding.router = EndingRouter(**volumes_bytes)
    return play


def test_the_first_fragment_fills_what_is_left_of_a_link() -> None:
    play = ending(sat0=600)
    play.up(SAT)
    play.bundle("a", payload=BIG)
    growth_bytes = play.agent._fragmentation.growth_bytes
    assert play.take_in("a")[-1] == f"fragment a {INLINE_SIZE_MAX_BYTES - growth_bytes} {600 - growth_bytes}"
    event = play.cut()
    assert len(event.fragments) == 2
    assert len(event.fragments[0]) + growth_bytes <= 600
    assert reassemble(event.fragments) == play.data["a"]
    play.handle(event)
    assert play.handle(play.stored("a+0", "a+1")) == ["store delete a", "send sat0>home a+0"]
    entry = play.agent.entry(play.id("a+1"))
    assert entry is not None
    assert (entry.state.value, entry.reason.split(" before ")[0]) == ("waiting", "sat0>dtn://home/ ends")


def test_what_fits_goes_whole_and_what_is_queued_counts() -> None:
    play = ending(sat0=2500)
    play.handle(ev.LinkUp(SAT))
    for name in ("a", "b", "c"):
        play.bundle(name, payload=BIG, flags=BundleFlag.MUST_NOT_FRAGMENT)
        play.take_in(name)
    assert [play.state(name) for name in ("a", "b", "c")] == ["queued", "queued", "waiting"]
    play.agent.forwarding.router = EndingRouter()
    assert play.handle(ev.LinkUp(SAT)) == []
    assert play.state("c") == "queued"


def test_a_link_that_lasts_is_better_than_a_fragment() -> None:
    play = ending(lan0=600)
    play.up(LAN_HOME, SAT)
    play.bundle("a", payload=BIG)
    assert play.take_in("a")[-1] == "send sat0>home a"


def test_a_link_that_is_as_good_as_gone_gets_no_fragment() -> None:
    play = ending(lan0=100, sat0=600)
    play.up(LAN_HOME, SAT)
    play.bundle("a", payload=BIG)
    assert play.take_in("a")[-1].startswith("fragment a ")
    (command,) = [command for command in play.commands if isinstance(command, cmd.FragmentBundle)]
    assert 400 < command.first_max_bytes < 600
    play.bundle("b", payload=b"short")
    assert play.take_in("b")[-1] == "send sat0>home b"


# Reassembly


def test_a_part_that_came_in_fragments_takes_its_place_in_its_message() -> None:
    play = Playbook()
    play.handle(ev.ReceiverAttached(1, INBOX))
    names = make(play, "p0", part=Part(1, 1, 0, 0, False))
    play.bundle("p1", INBOX, payload=b"end", part=Part(1, 1, 1, len(BIG), True))
    play.take_in("p1", *names)
    play.handle(joined(play, "p0", *names))
    assert play.records[play.id("p0")].part == Part(1, 1, 0, 0, False)
    play.expect(play.stored("p0"), f"store delete {' '.join(names)}", "deliver 1 p0 p1")


def test_an_oldest_message_stays_the_oldest_while_its_parts_are_joined() -> None:
    play = Playbook()
    delivery = play.agent._state.delivery
    old, young = make(play, "a", part=Part(1, 1, 0, 0, False)), make(play, "b", part=Part(2, 2, 0, 0, False))
    source = play.id("a").source
    play.take_in(old[0], young[0], *old[1:])
    play.handle(joined(play, "a", *old))
    play.handle(play.stored("a"))
    assert delivery.may_grow(BundleId(source, 1, 1))
    assert not delivery.may_grow(BundleId(source, 2, 2))
    play.expect(ev.BundleCancelled(play.id("a"), "me"), "store delete a")
    assert delivery.may_grow(BundleId(source, 2, 2))
    play.handle(ev.BundleCancelled(play.id(young[0]), "me"))
    assert delivery._incomplete == {}


def test_fragments_wait_for_their_siblings_and_become_the_bundle() -> None:
    play = Playbook()
    play.handle(ev.ReceiverAttached(1, INBOX))
    names = make(play, "a", flags=BundleFlag.REPORT_DELIVERY)
    last = names.pop()
    assert play.take_in(*names) == [f"accept lan0>dpop2 {' '.join(names)}"]
    assert {play.state(name) for name in names} == {"reassembling"}
    assert play.take_in(last) == [f"accept lan0>dpop2 {last}", f"reassemble {' '.join([*names, last])}"]
    play.expect(joined(play, "a", *names, last), "store put a")
    play.expect(play.stored("a"), f"store delete {' '.join([*names, last])}", "deliver 1 a")
    assert play.handle(play.confirmed(1, "a"))[0].startswith("store put own0; delete a")
    report = scan_untrusted(play.records[play.id("own0")].payload.inline or b"")
    assert report.is_admin_record


def test_fragments_of_what_is_stored_already_are_dropped_after_a_restart() -> None:
    play = Playbook()
    names = make(play, "a")
    play.take_in(*names[:2])
    whole = Playbook()
    whole._names, whole._ids, whole.data = play._names, play._ids, play.data
    whole.take_in("a")
    records = [whole.records[play.id("a")], *(play.records[play.id(name)] for name in names[:2])]
    other = Playbook()
    other._names, other._ids, other.data = play._names, play._ids, play.data
    other.expect(ev.StoreRecovered(records, (), {}), f"store delete {names[0]} {names[1]}")
    assert other.state("a") == "for_delivery"


def test_an_echo_request_in_fragments_is_answered_when_it_is_whole() -> None:
    play = Playbook()
    play.up(LAN)
    names = make(play, "a", destination=parse_eid("dtn://dpop1/echo"))
    play.take_in(*names)
    play.handle(joined(play, "a", *names))
    (line, *_) = play.handle(play.stored("a"))
    assert line.startswith(f"store put own0; delete a {' '.join(names)}")


def test_late_fragments_of_what_is_known_are_acknowledged_and_forgotten() -> None:
    play = Playbook()
    names = make(play, "a")
    play.take_in("a")
    play.expect(play.received(LAN, names[0]), f"accept lan0>dpop2 {names[0]}")
    assert play.state(names[0]) is None


def test_the_whole_bundle_makes_its_fragments_superfluous() -> None:
    play = Playbook()
    names = make(play, "a")
    play.take_in(names[0])
    play.handle(play.received(LAN, "a"))
    play.expect(play.stored("a"), f"store delete {names[0]}", "accept lan0>dpop2 a")


def test_overlapping_fragments_are_kept_only_where_they_add_something() -> None:
    play = Playbook()
    names = make(play, "a")
    data = play.data["a"]
    for index, piece in enumerate(fragment(data, scan_untrusted(data), 200)):
        play.data[f"small{index}"] = piece
        play.name(f"small{index}", scan_untrusted(piece).id)
    play.take_in(names[0])
    assert play.take_in("small0") == ["store delete small0", "accept lan0>dpop2 small0"]


def test_a_fragment_that_contradicts_is_refused() -> None:
    play = Playbook()
    names = make(play, "a")
    sequence = play.id("a").sequence
    others = make(play, "b", payload=BIG + b"more", sequence=sequence)
    elsewhere = make(play, "c", destination=parse_eid("dtn://dpop1/other"), sequence=sequence)
    play.take_in(names[0])
    for other in (others[-1], elsewhere[-1]):
        play.expect(play.received(LAN, other), f"refuse lan0>dpop2 {other} final")


@pytest.mark.parametrize("total_bytes", [0, 1 << 33])
def test_an_adu_that_can_never_be_reassembled_is_refused(total_bytes: int) -> None:
    play = Playbook()
    primary = PrimaryBlock(INBOX, HOME, HOME, play.now_ms, 1, HOUR_MS, BundleFlag.IS_FRAGMENT, 2, 0, total_bytes)
    data = encode(Bundle(primary, (CanonicalBlock(1, 1, b"" if not total_bytes else b"x", 0, 2),)))
    play.data["x"] = data
    play.name("x", scan_untrusted(data).id)
    play.expect(play.received(LAN, "x"), "refuse lan0>dpop2 x final")


def test_expired_and_cancelled_fragments_are_dropped() -> None:
    play = Playbook()
    names = make(play, "a")
    play.take_in(*names[:2])
    play.expect(ev.BundleCancelled(play.id(names[0]), "uid 0"), f"store delete {names[0]}")
    play.later(HOUR_MS / 1000 + 1)
    assert f"store delete {names[1]}" in play.handle(ev.TimerFired())
    assert len(play.agent._reassembly) == 0


def test_a_whole_that_could_not_be_stored_is_joined_again_later() -> None:
    play = Playbook()
    names = make(play, "a")
    play.take_in(*names)
    play.handle(joined(play, "a", *names))
    play.expect(play.not_stored("a"))
    assert play.wake_at is not None
    play.later(RETRY_S)
    play.expect(ev.TimerFired(), f"reassemble {' '.join(names)}")


def test_fragments_that_do_not_fit_each_other_are_dropped_and_unreadable_ones_too() -> None:
    play = Playbook()
    names = make(play, "a")
    play.take_in(*names)
    play.expect(ev.DataUnreadable([play.id(names[0])], "damaged"), f"store delete {names[0]}")
    play.expect(ev.BundleReassembled(play.id("a"), None))
    assert play.state(names[1]) == "reassembling"
    other = Playbook()
    names = make(other, "a")
    other.take_in(*names)
    other.expect(ev.BundleReassembled(other.id("a"), None, "they do not fit"), f"store delete {' '.join(names)}")
    assert other.kinds == ["bundle.deleted"]


def test_a_report_in_fragments_is_read_when_it_is_whole() -> None:
    play = Playbook()
    play.up(SAT)
    name = play.submit()
    play.handle(play.acknowledged(SAT, name))
    payload = encode_status_report(StatusReport(play.id(name), delivered=Assertion(is_asserted=True)))
    names = make(
        play, "r", 110, destination=NODE, source=HOME, flags=BundleFlag.IS_ADMIN_RECORD, payload=payload, hop_limit=0
    )
    assert len(names) > 1
    play.take_in(*names)
    play.handle(joined(play, "r", *names))
    assert play.message(name).state.value == "delivered"


def test_only_the_oldest_that_lacks_something_grows_in_a_full_store() -> None:
    play = Playbook(quota_bytes=4000)
    first, second = make(play, "a"), make(play, "b")
    play.take_in(first[0])
    play.take_in(second[0])
    limit = int(4000 * (Room.OTHER_MESSAGES.value + URGENT_RESERVE))
    for name in second[1:]:
        play.handle(play.received(LAN, name))
        if any(isinstance(command, cmd.RefuseTransfer) for command in play.commands):
            break
        play.handle(play.stored(name))
    assert play.agent.stored_bytes <= limit
    before = play.agent.stored_bytes
    for name in first[1:]:
        play.handle(play.received(LAN, name))
        assert not any(isinstance(command, cmd.RefuseTransfer) for command in play.commands)
        play.handle(play.stored(name))
    assert play.agent.stored_bytes > before


def test_recovered_fragments_go_on_waiting() -> None:
    play = Playbook()
    names = make(play, "a")
    play.take_in(*names[:-1])
    other = Playbook()
    other._names, other._ids, other.data = play._names, play._ids, play.data
    other.handle(ev.StoreRecovered([play.records[play.id(name)] for name in names[:-1]], (), {}))
    assert other.take_in(names[-1])[-1] == f"reassemble {' '.join(names)}"


# Too large for memory


def lots(play: Playbook, name: str, *sizes: int) -> list[ev.BundleFragmented]:
    """What the shell answers when it cuts so many fragments at a time."""
    whole = play.cut()
    answers, position, begin = [], 0, 0
    for size in sizes:
        fragments = whole.fragments[begin : begin + size]
        begin += size
        position += sum(scan_untrusted(each).payload_size for each in fragments)
        is_last = begin == len(whole.fragments)
        answers.append(ev.BundleFragmented(whole.id, fragments, next_position=0 if is_last else position))
    return answers


def test_fragments_leave_while_the_rest_is_cut_and_the_original_goes_last() -> None:
    play = Playbook()
    narrow(play)
    play.bundle("a", payload=BIG)
    play.take_in("a")
    first, second = lots(play, "a", 2, 3)
    play.expect(first, "store put a+0 a+1")
    wish, sent = play.handle(play.stored("a+0", "a+1"))
    assert wish.startswith("fragment a ")
    (command,) = [each for each in play.commands if isinstance(each, cmd.FragmentBundle)]
    assert command.position == first.next_position
    assert sent == "send sat0>home a+0 a+1"
    assert play.state("a") == "fragmenting"
    play.expect(second, "store put a+2 a+3 a+4")
    play.expect(play.stored("a+2", "a+3", "a+4"), "store delete a", "send sat0>home a+2 a+3 a+4")


def test_a_lot_that_is_here_already_is_not_stored_again() -> None:
    play = Playbook()
    narrow(play)
    play.bundle("a", payload=BIG)
    play.take_in("a")
    first, second = lots(play, "a", 2, 3)
    play.handle(first)
    play.handle(play.stored("a+0", "a+1"))
    play.handle(second)
    play.handle(ev.StoringFailed([play.id("a+2"), play.id("a+3"), play.id("a+4")], "disk full"))
    assert play.state("a") == "waiting"
    play.now += 61
    assert any(line.startswith("fragment a ") for line in play.handle(ev.TimerFired()))
    (command,) = [each for each in play.commands if isinstance(each, cmd.FragmentBundle)]
    assert command.position == first.next_position, "it goes on where it was"


def test_fragments_of_a_large_bundle_need_room_in_the_store() -> None:
    play = Playbook(quota_bytes=2000)
    narrow(play)
    play.bundle("a", payload=BIG)
    play.take_in("a")
    (first, *_) = lots(play, "a", 2, 3)
    first = ev.BundleFragmented(first.id, list(first.fragments) * 3, next_position=first.next_position)
    play.expect(first)
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    assert entry.reason == "the store has no room for its fragments, which are stored before it goes"


def test_the_whole_lies_in_a_stream_of_the_store_and_is_delivered() -> None:
    play = Playbook()
    names = make(play, "a")
    lines = play.take_in(*names)
    assert lines[-1] == f"reassemble {' '.join(names)}"
    header, size_bytes = scan_untrusted(play.data[names[0]]), len(play.data["a"])
    (line,) = play.handle(ev.BundleJoined(play.id("a"), -1, header, size_bytes))
    assert line == "finish -1 a"
    record = play.records[play.id("a")]
    assert (record.size_bytes, record.total_adu_bytes) == (size_bytes, 0)
    assert not record.flags & BundleFlag.IS_FRAGMENT
    assert play.handle(play.stored("a")) == [f"store delete {' '.join(names)}"]
    assert play.state("a") == "for_delivery"


def test_a_whole_that_the_store_could_not_take_is_joined_again() -> None:
    play = Playbook()
    names = make(play, "a")
    play.take_in(*names)
    play.handle(ev.JoiningFailed(play.id("a"), "disk full"))
    play.now += RETRY_S + 1
    assert play.handle(ev.TimerFired()) == [f"reassemble {' '.join(names)}"]


def test_a_whole_that_nobody_wants_any_more_is_dropped() -> None:
    play = Playbook()
    header = scan_untrusted(play.data[make(play, "a")[0]])
    play.expect(ev.BundleJoined(play.id("a"), -1, header, 2000), "abort -1")


def test_the_size_of_a_bundle_is_no_obstacle() -> None:
    play = Playbook()
    play.bundle("a", payload=BIG)
    play.take_in("a")
    entry = play.agent.entry(play.id("a"))
    assert entry is not None
    entry.record.size_bytes = 4 * INLINE_SIZE_MAX_BYTES
    play.handle(ev.LinkUp(SAT, 5_000_000))
    (command,) = [each for each in play.commands if isinstance(each, cmd.FragmentBundle)]
    assert command.size_max_bytes < 5_000_000
