# SPDX-License-Identifier: Apache-2.0
"""Every frame on the wire: its bytes, what is cut off, what can't be right; and any list of frames, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.cl.fountain.frame_codec import (
    SYMBOL_HEAD_BYTES,
    SYMBOL_SIZED_HEAD_BYTES,
    frame_bytes,
    pack_frames,
    parse_frames_untrusted,
)
from meshd.cl.fountain.frames import (
    ACKS_MAX,
    FRAMES_MAX,
    HEARD_MAX,
    MEMBERS_MAX,
    OBJECT_MAX_BYTES,
    PLAINTEXT_MAX_BYTES,
    SYMBOLS_MAX,
    Ack,
    AckRow,
    Beacon,
    Frame,
    FrameError,
    Group,
    Heard,
    Need,
    Ping,
    Pong,
    Refuse,
    Report,
    Silent,
    Symbol,
)

OBJECT = b"obj-0001"
TAG = b"tag-0001"
OBJECT_HEX, TAG_HEX = OBJECT.hex(), TAG.hex()

WIRE: list[tuple[Frame, str]] = [
    (Symbol(OBJECT, 0x001000, 0x020304, 5, b"data"), "01 001000 020304 05" + OBJECT_HEX + "64617461"),
    (Ack(0x1234, (AckRow(OBJECT, TAG),)), "03 1234 01" + OBJECT_HEX + TAG_HEX),
    (Refuse(0x1234, OBJECT, 7, TAG), "04 1234" + OBJECT_HEX + "07" + TAG_HEX),
    (Need(0x1234, OBJECT, 9), "05 1234" + OBJECT_HEX + "0009"),
    (
        Report(0x1234, 0x01020304, 0x0A0B0C0D0E0F, 1000, 60, 4, 10_000_000),
        "06 1234 01020304 0a0b0c0d0e0f 000003e8 0000003c 00000004 0000000000989680",
    ),
    (Ping(0x0102030405060708), "07 0102030405060708"),
    (Pong(0x1234, 0x0102030405060708, 1000), "08 1234 0102030405060708 000003e8"),
    (Silent(True, 3600), "09 01 00000e10"),
    (Beacon(1, 0x0003, 5, 0x100000), "0a 01 0003 05 00100000"),
    (Group(2, (0x1234, 0xFFFF)), "0b 02 02 1234 ffff"),
    (Heard(66, True, (0x1234, 0xFFFF)), "0c 0042 01 02 1234 ffff"),
]
IDS = [type(frame).__name__ for frame, _ in WIRE]
SIZED = [(frame, text) for frame, text in WIRE if not isinstance(frame, Symbol)]


@pytest.mark.parametrize(("frame", "text"), WIRE, ids=IDS)
def test_a_frame_has_these_bytes(frame: Frame, text: str) -> None:
    assert pack_frames([frame]).hex() == text.replace(" ", "")
    assert parse_frames_untrusted(bytes.fromhex(text)) == [frame]


@pytest.mark.parametrize(("frame", "text"), SIZED, ids=IDS[1:])
def test_a_frame_that_ends_early_is_refused_wherever_it_ends(frame: Frame, text: str) -> None:
    data = bytes.fromhex(text)
    for end in range(1, len(data)):
        with pytest.raises(FrameError):
            parse_frames_untrusted(data[:end])
        with pytest.raises(FrameError):
            parse_frames_untrusted(data + data[:end])


@pytest.mark.parametrize(("frame", "text"), WIRE, ids=IDS)
def test_the_size_is_known_before_packing(frame: Frame, text: str) -> None:
    ping = Ping(1)
    assert frame_bytes(frame) == len(pack_frames([frame, ping])) - frame_bytes(ping)


def test_only_the_last_symbol_goes_without_its_length() -> None:
    one, two = Symbol(OBJECT, 8, 0, 0, b"1234"), Symbol(OBJECT, 8, 1, 0, b"5678")
    data = pack_frames([one, two])
    assert len(data) == SYMBOL_SIZED_HEAD_BYTES + 4 + SYMBOL_HEAD_BYTES + 4
    assert data[0] == 2
    assert data[SYMBOL_SIZED_HEAD_BYTES + 4] == 1
    assert parse_frames_untrusted(data) == [one, two]


def test_a_symbol_may_be_short_but_not_lack_data() -> None:
    data = pack_frames([Symbol(OBJECT, 4, 0, 0, b"1234")])
    assert parse_frames_untrusted(data[:-3]) == [Symbol(OBJECT, 4, 0, 0, b"1")]
    for end in range(1, SYMBOL_HEAD_BYTES + 1):
        with pytest.raises(FrameError):
            parse_frames_untrusted(data[:end])
    sized = pack_frames([Symbol(OBJECT, 4, 0, 0, b"1234"), Ping(1)])
    for end in range(1, SYMBOL_SIZED_HEAD_BYTES + 4):
        with pytest.raises(FrameError):
            parse_frames_untrusted(sized[:end])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "0 bytes of frames"),
        ("00" * (PLAINTEXT_MAX_BYTES + 1), "65537 bytes of frames"),
        ("00", "unknown"),
        ("ff", "unknown"),
        ("01 000000 000000 00" + OBJECT_HEX + "00", "object of 0 bytes"),
        ("01 ffffff 000000 00" + OBJECT_HEX + "00" * 1400, "object of 16777215 bytes"),
        (f"01 {OBJECT_MAX_BYTES:06x} 000000 00{OBJECT_HEX}" + "00" * 255, "more than 8192 symbols of 255"),
        ("02 000001 000000 00" + OBJECT_HEX + "0000", "more than 8192 symbols of 0"),
        ("03 1234 00", "ACK of 0"),
        ("09 02 00000000", "state 2"),
        ("0a 01 0003 06 00100000", "precedence 6"),
        ("0b 00 01 1234", "GROUP 0"),
        ("0b 01 00", "GROUP 1 of 0"),
        ("0c 0042 02 00", "HEARD of 0"),
        ("0c 0042 01 21" + "1234" * 33, "HEARD of 33"),
        ("07 0102030405060708" * (FRAMES_MAX + 1), "more than 128 frames"),
    ],
)
def test_what_cant_be_right_is_refused(text: str, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        parse_frames_untrusted(bytes.fromhex(text))


def test_the_largest_object_and_the_most_frames_are_taken() -> None:
    data = bytes.fromhex(f"01 {OBJECT_MAX_BYTES:06x} 000000 00{OBJECT_HEX}") + bytes(OBJECT_MAX_BYTES // SYMBOLS_MAX)
    assert len(parse_frames_untrusted(data)) == 1
    assert len(parse_frames_untrusted(pack_frames([Ping(1)] * FRAMES_MAX))) == FRAMES_MAX


@pytest.mark.parametrize("kind", [1, 2])
def test_one_frame_that_cant_be_right_spoils_all(kind: int) -> None:
    data = pack_frames([Ping(1)])
    with pytest.raises(FrameError):
        parse_frames_untrusted(data * kind + b"\x00")


def numbers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


EIGHT = st.binary(min_size=8, max_size=8)
INDEXES = numbers(16)
SYMBOLS = st.binary(min_size=1, max_size=64).flatmap(
    lambda data: st.builds(
        Symbol,
        EIGHT,
        st.integers(1, min(OBJECT_MAX_BYTES, len(data) * SYMBOLS_MAX)),
        numbers(24),
        numbers(8),
        st.just(data),
    )
)
FRAMES = st.one_of(
    SYMBOLS,
    st.builds(Ack, INDEXES, st.lists(st.builds(AckRow, EIGHT, EIGHT), min_size=1, max_size=ACKS_MAX).map(tuple)),
    st.builds(Refuse, INDEXES, EIGHT, numbers(8), EIGHT),
    st.builds(Need, INDEXES, EIGHT, st.integers(1, 65535)),
    st.builds(Report, INDEXES, numbers(32), numbers(48), numbers(32), numbers(32), numbers(32), numbers(64)),
    st.builds(Ping, numbers(64)),
    st.builds(Pong, INDEXES, numbers(64), numbers(32)),
    st.builds(Silent, st.booleans(), numbers(32)),
    st.builds(Beacon, numbers(8), numbers(16), st.integers(0, 5), numbers(32)),
    st.builds(Heard, numbers(16), st.booleans(), st.lists(INDEXES, max_size=HEARD_MAX).map(tuple)),
    st.builds(Group, st.integers(1, 255), st.lists(INDEXES, min_size=1, max_size=MEMBERS_MAX).map(tuple)),
)


@given(st.lists(FRAMES, min_size=1, max_size=6))
def test_frames_go_there_and_back(frames: list[Frame]) -> None:
    data = pack_frames(frames)
    assert parse_frames_untrusted(data) == frames
    assert len(data) == sum(map(frame_bytes, frames)) - 2 * isinstance(frames[-1], Symbol)


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    try:
        frames = parse_frames_untrusted(data)
    except FrameError:
        return
    assert parse_frames_untrusted(pack_frames(frames)) == frames
