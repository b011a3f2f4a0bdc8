# SPDX-License-Identifier: Apache-2.0
"""Opening: what members seal comes out once, whatever else is on the air; over key rolls and kills of the receiver."""

import random
from collections import Counter

import msgspec
import pytest

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid, parse_eid
from meshd.cl.fountain.datagram import DATAGRAM_MAX_BYTES, SEAL_BYTES, Fault, Opened
from meshd.cl.fountain.opener import EPOCHS_TRIED_MAX, SIFTED_MIN, WAITING_MAX, Opener
from meshd.cl.fountain.sealer import PLAINTEXT_MAX_BYTES
from meshd.security.link_keys import LinkKeys
from meshd.security.replay_window import WINDOW_COUNTERS, Mark
from tests.unit.cl.fountain.sealed_pair import (
    AHEAD,
    BEARER,
    HERE,
    KEYS,
    ROLLED,
    ROLLING,
    THERE,
    THIRD,
    fault_of,
    handed_on,
    make_opener,
    make_sealer,
    open_all,
)


def test_what_a_member_seals_is_opened_with_all_that_is_known_of_it() -> None:
    opener, sealer = make_opener(), make_sealer(boot=7)
    opener.open_untrusted(sealer.seal(b"first"))
    opener.saved(opener.marks_to_save())
    opened = opener.open_untrusted(sealer.seal(b"frames"))
    assert opened == Opened(THERE, sealer.index, 7, 2, 1, False, b"frames")
    assert opener.heard(THERE) == Mark(7, 2)
    assert opener.heard(HERE) == Mark(0, 0)


@pytest.mark.parametrize("size", [1, 1400, PLAINTEXT_MAX_BYTES])
def test_any_size_that_udp_carries(size: int) -> None:
    datagram = make_sealer().seal(bytes(size))
    assert len(datagram) <= DATAGRAM_MAX_BYTES
    assert open_all(make_opener(), datagram) == [bytes(size)]


def test_a_changed_byte_anywhere_is_refused() -> None:
    datagram = make_sealer().seal(b"frames")
    opener = make_opener()
    for place in range(len(datagram)):
        forged = bytearray(datagram)
        forged[place] ^= 1 << place % 8
        assert fault_of(opener, bytes(forged)) in (Fault.FORGED, Fault.UNKNOWN, Fault.TOO_OLD)
    assert open_all(opener, datagram) == [b"frames"]


def test_a_datagram_cut_off_anywhere_is_refused() -> None:
    datagram = make_sealer().seal(b"frames")
    opener = make_opener()
    assert {fault_of(opener, datagram[:size]) for size in range(SEAL_BYTES + 1)} == {Fault.SIZE}
    for size in range(SEAL_BYTES + 1, len(datagram)):
        assert fault_of(opener, datagram[:size]) is not None
    assert fault_of(opener, datagram + b"\0") is not None
    assert fault_of(opener, datagram + bytes(DATAGRAM_MAX_BYTES)) is Fault.SIZE


def test_noise_is_refused_and_leaves_no_mark() -> None:
    rng = random.Random(5)
    opener = make_opener(ROLLING)
    faults = {fault_of(opener, rng.randbytes(200)) for _ in range(2000)}
    assert faults <= {Fault.UNKNOWN, Fault.FORGED}
    assert not opener.is_saving_wanted
    assert opener.marks_to_save() == {}


def test_another_missions_datagrams_and_another_bearers_are_refused() -> None:
    opener = make_opener()
    foreign = LinkKeys({1: b"\x77" * 32}, 1)
    assert fault_of(opener, make_sealer(keys=foreign).seal(b"x")) is not None
    assert fault_of(opener, make_sealer(bearer="los0").seal(b"x")) is not None


def test_a_node_that_is_no_member_is_unknown() -> None:
    stranger = make_sealer(parse_eid("dtn://stranger/"))
    assert fault_of(make_opener(), stranger.seal(b"x")) is Fault.UNKNOWN


def test_a_replay_is_refused_and_reordering_is_not() -> None:
    opener, sealer = make_opener(), make_sealer()
    datagrams = [sealer.seal(bytes([number])) for number in range(10)]
    for number in (9, 3, 0, 8):
        assert open_all(opener, datagrams[number]) == [bytes([number])]
        assert fault_of(opener, datagrams[number]) is Fault.REPLAYED
    sealer.next_counter += WINDOW_COUNTERS
    open_all(opener, sealer.seal(b"x"))
    assert fault_of(opener, datagrams[1]) is Fault.TOO_OLD


def test_a_lower_boot_number_is_refused_also_after_a_restart_of_the_receiver() -> None:
    opener = make_opener()
    old = make_sealer(boot=5)
    before = old.seal(b"before")
    open_all(opener, before)
    open_all(opener, make_sealer(boot=6).seal(b"after"))
    assert fault_of(opener, old.seal(b"late")) is Fault.TOO_OLD
    again = make_opener(marks=opener.final_marks())
    assert fault_of(again, before) is Fault.TOO_OLD
    assert fault_of(again, old.seal(b"late")) is Fault.TOO_OLD


@pytest.mark.parametrize("keys", [KEYS, ROLLING, ROLLED])
def test_sifting_drops_what_would_be_refused_without_a_look_at_its_seal(keys: LinkKeys) -> None:
    """What is left, opened one by one, and what was dropped are together what opening all would have been."""
    rng = random.Random(3)
    own, sealer, third = make_sealer(HERE, keys), make_sealer(keys=keys), make_sealer(THIRD, KEYS)
    opener = make_opener(keys, own=own)
    seen = [sealer.seal(bytes(40)) for _ in range(20)]
    for each in seen:
        open_all(opener, each)
    new = [each.seal(b"new") for each in (own, sealer, third)] + [make_sealer(boot=9).seal(b"started anew")]
    short = [rng.randbytes(size) for size in range(SEAL_BYTES + 1)]
    together = [*seen, *new, *short, *(rng.randbytes(60) for _ in range(300)), bytes(DATAGRAM_MAX_BYTES + 1)]
    rng.shuffle(together)
    left, dropped = opener.sift_untrusted(together)
    assert [each for each in together if each in new] == [each for each in left if each in new]
    assert not set(left) & {*seen, *short}
    assert len(left) + sum(dropped.values()) == len(together)
    faults = Counter(fault_of(opener, each) for each in together if each not in left)
    assert faults == dropped
    assert faults[Fault.UNKNOWN] > 290


def test_a_few_are_not_worth_sifting() -> None:
    few = [bytes(100)] * (SIFTED_MIN - 1)
    assert make_opener().sift_untrusted(few) == (few, {})
    assert make_opener().sift_untrusted([]) == ([], {})


def test_our_own_datagram_is_told_from_that_of_our_clone() -> None:
    own = make_sealer(HERE, boot=5)
    opener = make_opener(own=own)
    assert fault_of(opener, own.seal(b"x")) is Fault.OWN
    assert fault_of(opener, make_sealer(HERE, boot=4).seal(b"x")) is Fault.OWN
    assert fault_of(opener, make_sealer(HERE, boot=6).seal(b"x")) is Fault.CLONED
    clone = make_sealer(HERE, boot=5)
    clone.next_counter = 2
    assert fault_of(opener, clone.seal(b"x")) is Fault.CLONED


def test_members_with_one_index_are_refused() -> None:
    nodes = [parse_eid(f"ipn:{number}.0") for number in range(1, 2000)]
    with pytest.raises(SettingsError, match="same index"):
        Opener(nodes, BEARER, KEYS, {}, AHEAD)


def test_a_key_roll_loses_nothing_in_any_order_of_its_steps() -> None:
    """Each of three nodes takes the two steps at its own time; all hear all of the others throughout."""
    steps = (KEYS, ROLLING, ROLLED)
    sealers = {node: make_sealer(node) for node in (HERE, THERE, THIRD)}
    openers = {node: make_opener(own=sealer) for node, sealer in sealers.items()}
    taken = dict.fromkeys(sealers, 0)
    for number in (1, 2):
        for node in random.Random(number).sample(list(sealers), 3):
            taken[node] = number
            sealers[node].roll(steps[number])
            openers[node].roll(steps[number])
            for sender, sealer in sealers.items():
                datagram = sealer.seal(sender.uri.encode())
                for receiver, opener in openers.items():
                    if receiver != sender:
                        assert open_all(opener, datagram) == [sender.uri.encode()], taken
                        assert fault_of(opener, datagram) is not None


def test_a_receiver_that_has_not_heard_of_the_next_epoch_is_the_one_that_loses() -> None:
    """This roll test could fail."""
    assert fault_of(make_opener(KEYS), make_sealer(keys=ROLLED).seal(b"x")) is not None


def test_old_epochs_are_marked_and_dropped_ones_are_refused() -> None:
    keys = LinkKeys({epoch: bytes([epoch]) * 32 for epoch in (1, 2, 3)}, 1)
    sealer = make_sealer(keys=keys)
    opener = make_opener(keys.use_newest(), marks={THERE: Mark(1, 0)})
    opener.open_untrusted(sealer.seal(b"x"))
    (opened,) = opener.saved(opener.marks_to_save())
    assert opened.is_old_epoch
    assert opened.epoch == 1
    opener.roll(keys.use_newest().drop_old())
    assert fault_of(opener, sealer.seal(b"x")) is not None


def test_a_report_never_names_what_the_sender_has_not_sent() -> None:
    """After a kill the mark lies ahead of the sender; a report of it would look to the sender like a clone."""
    sealer = make_sealer(boot=5)
    opener = make_opener(marks={THERE: Mark(5, AHEAD)})
    assert fault_of(opener, sealer.seal(b"x")) is Fault.REPLAYED
    assert opener.heard(THERE) == Mark(0, 0)
    assert not sealer.is_ahead(*msgspec.structs.astuple(opener.heard(THERE)))
    sealer.next_counter = AHEAD + 1
    open_all(opener, sealer.seal(b"x"))
    assert opener.heard(THERE) == Mark(5, AHEAD + 1)


def test_a_roll_does_not_forget_what_was_seen() -> None:
    opener, sealer = make_opener(ROLLING), make_sealer(keys=ROLLING)
    datagram = sealer.seal(b"x")
    open_all(opener, datagram)
    opener.roll(ROLLED)
    assert fault_of(opener, datagram) is Fault.REPLAYED


def test_few_epochs_are_tried() -> None:
    keys = LinkKeys({epoch: bytes([epoch]) * 32 for epoch in range(1, 17)}, 9)
    opener = make_opener(keys)
    assert [epoch.number for epoch in opener._epochs] == [9, 8, 10, 11]
    assert len(opener._epochs) == EPOCHS_TRIED_MAX


def test_nothing_is_handed_on_before_its_mark_is_durable() -> None:
    opener, sealer = make_opener(), make_sealer()
    assert opener.open_untrusted(sealer.seal(b"1")) is None
    assert opener.open_untrusted(sealer.seal(b"2")) is None
    wanted = [opener.is_saving_wanted]
    marks = opener.marks_to_save()
    assert [*wanted, opener.is_saving_wanted] == [True, False]
    assert marks == {THERE: Mark(1, 1 + AHEAD)}
    assert opener.saved({}) == []
    assert [each.plaintext for each in opener.saved(marks)] == [b"1", b"2"]
    assert opener.saved(marks) == []
    opened = opener.open_untrusted(sealer.seal(b"3"))
    assert opened is not None
    assert not opener.is_saving_wanted


def test_marks_are_asked_for_in_time() -> None:
    """A disk that takes as long as a quarter of `ahead` datagrams holds nothing up, but for the first ones."""
    opener, sealer = make_opener(), make_sealer()
    open_all(opener, sealer.seal(b"x"))
    syncing: list[tuple[int, dict[Eid, Mark]]] = []
    for number in range(5 * AHEAD):
        assert opener.open_untrusted(sealer.seal(b"x")) is not None
        if opener.is_saving_wanted:
            syncing.append((number + AHEAD // 4, opener.marks_to_save()))
        if syncing and syncing[0][0] == number:
            assert opener.saved(syncing.pop(0)[1]) == []


def test_a_disk_that_hangs_costs_bounded_memory() -> None:
    opener, sealer = make_opener(), make_sealer()
    for _ in range(WAITING_MAX):
        assert opener.open_untrusted(sealer.seal(b"x")) is None
    assert fault_of(opener, sealer.seal(b"x")) is Fault.CROWDED
    assert len(opener.saved(opener.marks_to_save())) == WAITING_MAX


@pytest.mark.parametrize("seed", range(5))
def test_no_datagram_counts_twice_over_kills_of_the_receiver(seed: int) -> None:
    """An attacker repeats everything; the receiver is killed at any moment, and the disk has what was synced."""
    rng = random.Random(seed)
    disk: dict[Eid, Mark] = {}
    opener, sealer = make_opener(ahead=50), make_sealer()
    air: list[bytes] = []
    counted: list[bytes] = []
    for number in range(3000):
        air.append(sealer.seal(number.to_bytes(4)))
        for datagram in (air[-1], rng.choice(air[-50:]), rng.choice(air)):
            counted += handed_on(opener, datagram)
        if opener.is_saving_wanted and rng.random() < 0.3:
            marks = opener.marks_to_save()
            if rng.random() < 0.1:
                opener = make_opener(marks=disk, ahead=50)  # killed before the sync
                continue
            disk = marks
            counted += [each.plaintext for each in opener.saved(marks)]
        if rng.random() < 0.01:
            opener = make_opener(marks=disk, ahead=50)
    assert len(counted) > 1000
    assert len(counted) == len(set(counted))
