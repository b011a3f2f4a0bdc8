# SPDX-License-Identifier: Apache-2.0
"""The fountain bearer on the loopback device: bundles both ways, silence, who may speak, restarts and reloads."""

import random
from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from meshd.base.errors import LocalProtocolError
from meshd.bearer.connection import accept, refuse
from meshd.bearer.datagram_socket import TURN_DATAGRAMS, DatagramSocket
from meshd.bearer.fountain_station import NOISE_PAUSE_S
from meshd.bearer.sockets import Address, BearerError
from meshd.bundle.precedence import Precedence
from meshd.bundle.supersession import Supersession
from meshd.cl.fountain.sealer import Sealer
from meshd.link.settings import Direction
from meshd.node.events import (
    BundlesReceived,
    Event,
    LinkDown,
    LinkUp,
    LinkWritable,
    TransfersAcknowledged,
    TransfersFailed,
)
from tests.unit.bearer.fountain_peers import (
    MemoryState,
    Station,
    fountain_neighbour,
    free_ports,
    link_files,
    make_bundle,
    make_pair,
    radio_settings,
)
from tests.unit.bearer.tcp_peers import ALPHA, BRAVO, CHARLIE, make_link


def received(station: Station) -> list[bytes]:
    return [row.data for event in station.told.all(BundlesReceived) for row in event.rows]


def acknowledged(station: Station) -> set[object]:
    return {bundle for event in station.told.all(TransfersAcknowledged) for bundle in event.ids}


async def acknowledgement(station: Station, bundle: object) -> None:
    await station.told.until(lambda: bundle in acknowledged(station))


def accept_all(station: Station) -> None:
    """Its node keeps whatever arrives."""

    def take(event: Event) -> None:
        if isinstance(event, BundlesReceived):
            accept([row.transfer for row in event.rows])

    station.told.on_event = take


async def start(nursery: trio.Nursery, *stations: Station) -> None:
    for station in stations:
        accept_all(station)
        await nursery.start(station.bearer.run)


async def connect(nursery: trio.Nursery, *stations: Station) -> None:
    await start(nursery, *stations)
    for station in stations:
        await station.told.wait_for(LinkWritable)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_bundles_large_and_small_arrive_and_are_acknowledged(nursery: trio.Nursery, host: str) -> None:
    alpha, bravo = make_pair(host)
    await connect(nursery, alpha, bravo)
    assert alpha.told.all(LinkUp)[0].link == make_link(BRAVO)
    assert alpha.told.all(LinkWritable)[0].credit_bytes >= 256 * 1024
    rows = [make_bundle(number, size) for number, size in enumerate((1, 1000, 300_000, 50))]
    alpha.bearer.send_bundles(make_link(BRAVO), rows)
    await alpha.told.until(lambda: acknowledged(alpha) == {bundle for bundle, _ in rows})
    assert sorted(received(bravo)) == sorted(b"".join(chunks) for _, chunks in rows)
    (figures,) = alpha.bearer.snapshot()
    assert (figures["state"], figures["sent_bundles"], figures["in_flight_bundles"]) == ("up", 4, 0)
    assert figures["sent_bytes"] == bravo.bearer.snapshot()[0]["received_bytes"]


async def test_a_group_hears_one_transmission(nursery: trio.Nursery) -> None:
    (port,) = (address.rpartition(":")[2] for address in free_ports(1))
    settings = radio_settings(group=f"239.255.77.1:{port}")
    nodes = (ALPHA, BRAVO, CHARLIE)
    stations = [
        Station(node, settings, [fountain_neighbour(each, None) for each in nodes if each != node]) for node in nodes
    ]
    await start(nursery, *stations)
    alpha, bravo, charlie = stations
    await alpha.told.wait_for(LinkWritable, 2)
    row = make_bundle(1, 100_000)
    alpha.bearer.send_bundles(make_link(BRAVO), [row])
    alpha.bearer.send_bundles(make_link(CHARLIE), [row])
    await alpha.told.until(lambda: sum(len(each.ids) for each in alpha.told.all(TransfersAcknowledged)) == 2)
    assert received(bravo) == received(charlie) == [b"".join(row[1])]
    for station, other in ((bravo, CHARLIE), (charlie, BRAVO)):
        assert [row.served for event in station.told.all(BundlesReceived) for row in event.rows] == [(other,)]


async def test_what_the_node_refuses_for_now_comes_back_to_be_tried_again(nursery: trio.Nursery) -> None:
    alpha, bravo = make_pair()
    await connect(nursery, alpha, bravo)

    def turn_away(event: Event) -> None:
        if isinstance(event, BundlesReceived):
            refuse(event.rows[0].transfer, retriable=True, completed=False)

    bravo.told.on_event = turn_away
    row = make_bundle(1)
    alpha.bearer.send_bundles(make_link(BRAVO), [row])
    (failed,) = await alpha.told.wait_for(TransfersFailed)
    assert failed.ids == [row[0]]
    assert (failed.reason.retriable, failed.reason.session_ended) == (True, False)


async def test_what_was_had_before_counts_as_arrived(nursery: trio.Nursery) -> None:
    alpha, bravo = make_pair()
    await connect(nursery, alpha, bravo)

    def had_it(event: Event) -> None:
        if isinstance(event, BundlesReceived):
            refuse(event.rows[0].transfer, retriable=False, completed=True)

    bravo.told.on_event = had_it
    alpha.bearer.send_bundles(make_link(BRAVO), [make_bundle(1)])
    await alpha.told.wait_for(TransfersAcknowledged)


async def test_flash_overtakes_bulk_at_the_next_datagram(nursery: trio.Nursery) -> None:
    alpha, bravo = make_pair(rate_bps=2_000_000)
    await connect(nursery, alpha, bravo)
    bulk, flash = make_bundle(1, 400_000), make_bundle(2, 1000, Precedence.FLASH)
    alpha.bearer.send_bundles(make_link(BRAVO), [bulk])
    alpha.bearer.send_urgent(make_link(BRAVO), [flash])
    await bravo.told.until(lambda: len(received(bravo)) == 2)
    assert received(bravo) == [b"".join(flash[1]), b"".join(bulk[1])]


async def test_a_live_bundle_that_would_be_late_comes_back_and_one_in_time_goes(nursery: trio.Nursery) -> None:
    alpha, bravo = make_pair(rate_bps=500_000)
    await connect(nursery, alpha, bravo)
    tag = Supersession(b"stream", 1, 2)
    late = make_bundle(1, 500_000, lifetime_ms=4000, supersession=tag)  # was made a second ago, and takes 8 s
    small = make_bundle(2, 100, lifetime_ms=3_600_000, supersession=tag)
    alpha.bearer.send_bundles(make_link(BRAVO), [late, small])
    (failed,) = await alpha.told.wait_for(TransfersFailed)
    assert (failed.ids, failed.reason.is_late) == ([late[0]], True)
    await bravo.told.until(lambda: len(received(bravo)) == 1)
    assert received(bravo) == [b"".join(small[1])]


async def test_a_silent_node_hears_and_answers_afterwards(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, bravo = make_pair()
    await connect(nursery, alpha, bravo)
    own, sent = bravo.bearer.bound_address, []
    send = DatagramSocket.send

    def count(self: DatagramSocket, datagrams: Sequence[bytes], to: Address | None) -> tuple[int, str]:
        sent.append(self.bound_address)
        return send(self, datagrams, to)

    monkeypatch.setattr(DatagramSocket, "send", count)
    bravo.bearer.freeze()
    row = make_bundle(1)
    alpha.bearer.send_bundles(make_link(BRAVO), [row])
    await bravo.told.until(lambda: received(bravo) == [b"".join(row[1])])
    await wait_all_tasks_blocked()
    assert own not in sent
    assert acknowledged(alpha) == set()
    bravo.bearer.thaw()
    await alpha.told.until(lambda: acknowledged(alpha) == {row[0]})
    assert own in sent


@pytest.mark.parametrize("is_counted", [False, True])
async def test_each_datagram_leaves_by_itself_where_the_gate_counts(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, *, is_counted: bool
) -> None:
    alpha, bravo = make_pair()
    await connect(nursery, alpha, bravo)
    own, together = alpha.bearer.bound_address, []
    send_run = DatagramSocket._send_run

    def note(self: DatagramSocket, run: Sequence[bytes], place: Address) -> None:
        if self.bound_address == own:
            together.append(len(run))
        send_run(self, run, place)

    monkeypatch.setattr(DatagramSocket, "_send_run", note)
    alpha.bearer.count(is_counted=is_counted)
    alpha.bearer.thaw()
    row = make_bundle(1, size_bytes=200_000)
    alpha.bearer.send_bundles(make_link(BRAVO), [row])
    await bravo.told.until(lambda: received(bravo) == [b"".join(row[1])])
    assert (max(together) == 1) is is_counted


async def test_who_has_no_neighbour_to_break_silence_for_says_what_to_do() -> None:
    alone = Station(ALPHA, radio_settings(listen="127.0.0.1:0"), [])
    with pytest.raises(BearerError, match="give a neighbour on it cl"):
        alone.bearer.break_silence(4, None, 1)


async def test_one_way_everything_counts_as_sent_after_its_passes(nursery: trio.Nursery) -> None:
    here, there = free_ports(2)
    sender = radio_settings(listen=here, direction=Direction.TX, emcon_rtc=0)
    alpha = Station(ALPHA, sender, [fountain_neighbour(BRAVO, there)])
    bravo = Station(BRAVO, radio_settings(listen=there, direction=Direction.RX), [fountain_neighbour(ALPHA, None)])
    await start(nursery, bravo, alpha)
    await alpha.told.wait_for(LinkWritable)
    row = make_bundle(1, 100_000)
    alpha.bearer.send_bundles(make_link(BRAVO), [row])
    await alpha.told.until(lambda: acknowledged(alpha) == {row[0]})
    await bravo.told.until(lambda: received(bravo) == [b"".join(row[1])])
    assert alpha.bearer.snapshot()[0]["last_heard_s"] is None


async def test_without_a_sure_boot_number_a_node_only_listens(nursery: trio.Nursery) -> None:
    here, there = free_ports(2)
    alpha = Station(ALPHA, radio_settings(listen=here), [fountain_neighbour(BRAVO, there)], MemoryState(boot=None))
    bravo = Station(BRAVO, radio_settings(listen=there), [fountain_neighbour(ALPHA, here)])
    await start(nursery, alpha, bravo)
    alarm = await alpha.told.wait_for_report("link.alarm")
    assert "the boot number is lost" in str(alarm["reason"])
    await alpha.told.wait_for(LinkUp)  # it hears
    assert bravo.told.all(LinkUp) == []


async def test_marks_are_on_the_disk_before_anything_counts(nursery: trio.Nursery) -> None:
    alpha, bravo = make_pair()
    bravo.state.is_full = True
    await start(nursery, alpha, bravo)
    problem = await bravo.told.wait_for_report("bearer.problem")
    assert "No space left" in str(problem["problem"])
    assert bravo.told.all(LinkUp) == []
    bravo.state.is_full = False
    await bravo.told.wait_for(LinkUp)
    assert ALPHA in bravo.state.marks


async def test_strangers_are_refused_and_told_of(nursery: trio.Nursery) -> None:
    alpha, bravo = make_pair()
    await connect(nursery, alpha, bravo)
    address = bravo.bearer.bound_address
    assert address is not None
    host, _, port = address.rpartition(":")
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as stranger:
        await stranger.sendto(bytes(100), (host, int(port)))
    fields = await bravo.told.wait_for_report("link.datagrams_refused")
    assert fields["bearer"] == "lan0"
    assert sum(int(str(count)) for name, count in fields.items() if name != "bearer") == 1


async def test_bundles_arrive_in_the_middle_of_a_flood_that_is_counted(nursery: trio.Nursery) -> None:
    alpha, bravo = make_pair()
    await connect(nursery, alpha, bravo)
    address = bravo.bearer.bound_address
    assert address is not None
    host, _, port = address.rpartition(":")
    rows = [make_bundle(number, 3000) for number in range(10)]
    noise = random.Random(1)
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as stranger:
        for row in rows:
            alpha.bearer.send_bundles(make_link(BRAVO), [row])
            for _ in range(TURN_DATAGRAMS // 2):
                await stranger.sendto(noise.randbytes(100), (host, int(port)))
    await alpha.told.until(lambda: acknowledged(alpha) == {bundle for bundle, _ in rows})
    station = bravo.bearer._station
    assert station is not None
    await wait_all_tasks_blocked(20 * NOISE_PAUSE_S)
    assert sum(station.machine.faults.values()) == len(rows) * (TURN_DATAGRAMS // 2)


async def test_a_changed_neighbour_begins_anew_and_the_rest_goes_back_to_the_node(nursery: trio.Nursery) -> None:
    alpha, bravo = make_pair()
    await connect(nursery, alpha, bravo)
    bravo.told.on_event = lambda event: None  # its node never answers
    row = make_bundle(1)
    alpha.bearer.send_bundles(make_link(BRAVO), [row])
    await bravo.told.wait_for(BundlesReceived)
    alpha.bearer.configure([])
    (failed,) = await alpha.told.wait_for(TransfersFailed)
    assert failed.ids == [row[0]]
    assert failed.reason.session_ended
    await alpha.told.wait_for(LinkDown)
    with pytest.raises(LocalProtocolError, match="has no link"):
        alpha.bearer.send_bundles(make_link(CHARLIE), [row])
    alpha.bearer.configure([fountain_neighbour(BRAVO, bravo.bearer.bound_address)])
    await alpha.told.wait_for(LinkUp, 2)


async def test_a_node_that_started_anew_is_answered_at_once(nursery: trio.Nursery) -> None:
    here, there = free_ports(2)
    bravo = Station(BRAVO, radio_settings(listen=there), [fountain_neighbour(ALPHA, here)])
    await start(nursery, bravo)
    for boot in (1, 2):
        alpha = Station(ALPHA, radio_settings(listen=here), [fountain_neighbour(BRAVO, there)], MemoryState(boot))
        await connect(nursery, alpha)
        await alpha.bearer.shutdown()


async def test_new_link_keys_are_taken_over_without_loss(nursery: trio.Nursery) -> None:
    alpha, bravo = make_pair()
    await connect(nursery, alpha, bravo)
    keys = link_files(ALPHA).keys.add(b"\x02" * 32)
    for number, keys_now in enumerate((keys, keys.use_newest(), keys.use_newest().drop_old())):
        for station in (alpha, bravo):
            station.bearer.set_files(link_files(station.node, keys_now))
        row = make_bundle(number)
        alpha.bearer.send_bundles(make_link(BRAVO), [row])
        await acknowledgement(alpha, row[0])
    assert alpha.told.all(LinkDown) == []


async def test_a_neighbour_without_a_public_key_is_left_out_until_there_is_one(nursery: trio.Nursery) -> None:
    here, there = free_ports(2)
    files = link_files(ALPHA, without=BRAVO)
    alpha = Station(ALPHA, radio_settings(listen=here), [fountain_neighbour(BRAVO, there)], files=files)
    bravo = Station(BRAVO, radio_settings(listen=there), [fountain_neighbour(ALPHA, here)])
    await start(nursery, alpha, bravo)
    problem = await alpha.told.wait_for_report("bearer.problem")
    assert "there is no public key of dtn://bravo/" in str(problem["problem"])
    alpha.bearer.set_files(link_files(ALPHA))
    await alpha.told.wait_for(LinkUp)


async def test_who_hears_itself_ahead_of_itself_falls_silent(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state was restored from a copy, or somebody else has the keys: nonces could repeat."""
    (port,) = (address.rpartition(":")[2] for address in free_ports(1))
    settings = radio_settings(group=f"239.255.77.3:{port}")
    peer = [fountain_neighbour(BRAVO, None)]
    alpha, copy = Station(ALPHA, settings, peer), Station(ALPHA, settings, peer, MemoryState(boot=9))
    bravo = Station(BRAVO, settings, [fountain_neighbour(ALPHA, None)], MemoryState(boot=2))
    await connect(nursery, alpha, bravo)
    await connect(nursery, copy)
    alarm = await alpha.told.wait_for_report("link.alarm")
    assert "what it did not send" in str(alarm["reason"])
    boots, seal = [], Sealer.seal

    def note(self: Sealer, plaintext: bytes) -> bytes:
        boots.append(self.boot)
        return seal(self, plaintext)

    monkeypatch.setattr(Sealer, "seal", note)
    row = make_bundle(1)
    for station in (alpha, copy):
        station.bearer.send_bundles(make_link(BRAVO), [row])
    await copy.told.until(lambda: acknowledged(copy) == {row[0]})
    assert 9 in boots
    assert 1 not in boots


async def test_what_is_handed_over_too_late_comes_back(nursery: trio.Nursery) -> None:
    (here,) = free_ports(1)
    alpha = Station(ALPHA, radio_settings(listen=here), [fountain_neighbour(BRAVO, "127.0.0.9:9")])
    await start(nursery, alpha)
    row = make_bundle(1)
    alpha.bearer.send_bundles(make_link(BRAVO), [row])
    (failed,) = await alpha.told.wait_for(TransfersFailed)
    assert (failed.ids, failed.reason.session_ended) == ([row[0]], False)


async def test_a_configured_hardware_address_is_pinned_and_let_go(nursery: trio.Nursery) -> None:
    here, there = free_ports(2)
    peer = fountain_neighbour(BRAVO, there, mac="02:00:00:00:00:02")
    alpha = Station(ALPHA, radio_settings(listen=here), [peer])
    async with trio.open_nursery() as inner:
        await start(inner, alpha)
        await wait_all_tasks_blocked()
        assert alpha.entries.pinned == {"127.0.0.1": "02:00:00:00:00:02"}
        await alpha.bearer.shutdown()
    assert alpha.entries.pinned == {}


async def test_marks_are_saved_when_it_stops(nursery: trio.Nursery) -> None:
    alpha, bravo = make_pair()
    await connect(nursery, alpha, bravo)
    ahead = bravo.state.marks[ALPHA]
    await bravo.bearer.shutdown()
    assert bravo.state.marks[ALPHA].boot == ahead.boot
    assert bravo.state.marks[ALPHA].counter < ahead.counter
