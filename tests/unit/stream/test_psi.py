# SPDX-License-Identifier: Apache-2.0
"""PAT and PMT: good, damaged, long, changing, missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.stream.psi import (
    ProgramMap,
    PsiError,
    Role,
    SectionAssembler,
    mpeg_crc32,
    parse_pat_untrusted,
    parse_pmt_untrusted,
)
from tests.unit.stream.ts_muxer import KLV_PID, KLVA, PMT_PID, STREAMS, VIDEO_PID, pat, pmt, section


def test_the_check_value_of_the_catalogue() -> None:
    assert mpeg_crc32(b"123456789") == 0x0376E6E7


def test_a_pat_by_another_program() -> None:
    # As FFmpeg writes it: program 1 on PID 0x1000.
    assert parse_pat_untrusted(bytes.fromhex("00b00d0001c100000001f0002ab104b2")) == {1: 0x1000}


@pytest.mark.parametrize(
    ("kind", "words", "role"),
    [
        (0x02, b"", Role.MPEG2_VIDEO),
        (0x1B, b"", Role.H264),
        (0x24, b"", Role.H265),
        (0x15, b"", Role.KLV),
        (0x06, KLVA, Role.KLV),
        (0x06, b"\x0a\x04eng\0" + KLVA, Role.KLV),
        (0x06, b"\x05\x04AC-3", Role.OTHER),
        (0x06, b"\x05", Role.OTHER),
        (0x0F, KLVA, Role.OTHER),
    ],
)
def test_roles(kind: int, words: bytes, role: Role) -> None:
    program = parse_pmt_untrusted(pmt([(kind, 0x44, words)], pcr_pid=0x55))
    assert program is not None
    assert (program.roles, program.pcr_pid, program.number) == ({0x44: role}, 0x55, 1)


def test_a_table_for_later_is_not_taken() -> None:
    later = bytearray(pat({1: 5}))
    later[5] &= 0xFE
    later[-4:] = mpeg_crc32(bytes(later[:-4])).to_bytes(4, "big")
    assert parse_pat_untrusted(bytes(later)) is None


def test_streams_that_run_over() -> None:
    bad = section(2, 1, b"\xe1\x00\xf0\x00" + b"\x1b\xe1\x00\xf0\x09")
    with pytest.raises(PsiError, match="over its end"):
        parse_pmt_untrusted(bad)


@given(st.binary(max_size=80))
def test_anything_is_refused_or_read(data: bytes) -> None:
    body = section(2, 1, data)
    for parse in (parse_pmt_untrusted, parse_pat_untrusted):
        for given_ in (data, body):
            try:
                parse(given_)
            except PsiError:
                continue


def test_a_section_over_several_packets() -> None:
    data = pmt([(0x1B, 0x100 + number, KLVA * 2) for number in range(30)])
    assert len(data) > 400
    assembler = SectionAssembler()
    stuffed = b"\0" + data + b"\xff" * 100
    parts = [stuffed[pos : pos + 184] for pos in range(0, len(stuffed), 184)]
    found = [given_ for number, part in enumerate(parts) for given_ in assembler.feed_untrusted(part, number == 0)]
    assert found == [data]


def test_a_section_that_ends_where_the_next_begins() -> None:
    first, second = pat({1: 5}), pat({2: 6})
    assembler = SectionAssembler()
    assert list(assembler.feed_untrusted(b"\0" + first[:10], True)) == []
    rest = first[10:]
    assert list(assembler.feed_untrusted(bytes((len(rest),)) + rest + second, True)) == [first, second]


def test_a_lost_packet_costs_one_section() -> None:
    data = pmt([(0x1B, 0x100 + number, KLVA * 2) for number in range(30)])
    programs = ProgramMap()
    programs.take_untrusted(0, b"\0" + pat({1: PMT_PID}), True)
    stuffed = b"\0" + data + b"\xff" * 300
    programs.take_untrusted(PMT_PID, stuffed[:184], True)
    programs.take_untrusted(PMT_PID, stuffed[368:552], False)
    assert programs.roles == {}
    for pos in range(0, 552, 184):
        programs.take_untrusted(PMT_PID, stuffed[pos : pos + 184], pos == 0)
    assert len(programs.roles) == 30


def test_a_new_version_replaces_the_old_one_and_damage_does_not() -> None:
    programs = ProgramMap()
    assert programs.take_untrusted(0, b"\0" + pat({1: PMT_PID}), True)
    assert programs.take_untrusted(PMT_PID, b"\0" + pmt(STREAMS), True)
    assert not programs.take_untrusted(PMT_PID, b"\0" + pmt(STREAMS), True)
    assert programs.roles[VIDEO_PID] is Role.H264
    assert programs.pcr_pids == {VIDEO_PID}
    damaged = pmt([(0x24, VIDEO_PID, b"")])[:-1] + b"\0"
    assert not programs.take_untrusted(PMT_PID, b"\0" + damaged, True)
    assert (programs.roles[VIDEO_PID], programs.damaged_sections) == (Role.H264, 1)
    assert programs.take_untrusted(PMT_PID, b"\0" + pmt([(0x24, VIDEO_PID, b"")], version=1), True)
    assert programs.roles == {VIDEO_PID: Role.H265}
    assert KLV_PID not in programs.roles


def test_a_program_that_moved_is_forgotten() -> None:
    programs = ProgramMap()
    programs.take_untrusted(0, b"\0" + pat({1: PMT_PID}), True)
    programs.take_untrusted(PMT_PID, b"\0" + pmt(STREAMS), True)
    programs.take_untrusted(0, b"\0" + pat({1: 0x77}, version=1), True)
    assert programs.roles == {}
    assert programs.table_pids == {0, 0x77}


def test_sections_that_can_not_be_are_dropped_until_a_new_one_begins() -> None:
    good = pat({1: 5})
    assembler = SectionAssembler()
    assert list(assembler.feed_untrusted(b"", True)) == []
    assert list(assembler.feed_untrusted(b"\x09ab", True)) == []
    assert list(assembler.feed_untrusted(b"\0\x02\xbf\xff" + bytes(90), True)) == []
    assert list(assembler.feed_untrusted(bytes(90), False)) == []
    assert list(assembler.feed_untrusted(b"\0\x00\xb0", True)) == []
    assert list(assembler.feed_untrusted(b"\0" + good, True)) == [good]


def test_tables_for_later_change_nothing() -> None:
    programs = ProgramMap()
    programs.take_untrusted(0, b"\0" + pat({1: PMT_PID}), True)
    programs.take_untrusted(PMT_PID, b"\0" + pmt(STREAMS), True)
    for pid, table in ((0, pat({1: 9})), (PMT_PID, pmt([]))):
        later = bytearray(table)
        later[5] &= 0xFE
        later[-4:] = mpeg_crc32(bytes(later[:-4])).to_bytes(4, "big")
        assert not programs.take_untrusted(pid, b"\0" + bytes(later), True)
    assert programs.roles[VIDEO_PID] is Role.H264
