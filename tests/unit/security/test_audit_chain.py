# SPDX-License-Identifier: Apache-2.0
"""The hash chain: what breaks it is found."""

import json
from dataclasses import replace

import pytest

from meshd.security.audit_chain import (
    EMPTY,
    ENTRY_SIZE_MAX_BYTES,
    PROBLEMS_MAX,
    Anchor,
    ChainCheck,
    Head,
    HeadError,
    Row,
    decode_head_untrusted,
    encode_entry,
    encode_head,
    make_row,
    parse_anchor_untrusted,
)


def chain(length: int) -> list[Row]:
    rows: list[Row] = []
    newest = EMPTY.newest
    for number in range(length):
        rows.append(make_row(newest, b"entry %d" % number))
        newest = Anchor(rows[-1].number, rows[-1].hash)
    return rows


ROWS = chain(6)
HEAD = Head(Anchor(6, ROWS[5].hash), 1)


def problems(rows: list[Row], head: Head | None = HEAD, anchor: Anchor | None = None) -> str:
    check = ChainCheck(head, anchor)
    for row in rows:
        check.add(row)
    return "; ".join(check.finish())


def test_a_whole_chain_is_good() -> None:
    assert problems(ROWS) == ""
    assert problems([], EMPTY) == ""
    assert problems(ROWS, anchor=Anchor(3, ROWS[2].hash)) == ""


def test_rows_beyond_the_head_are_a_crash_and_no_problem() -> None:
    assert problems(ROWS, Head(Anchor(4, ROWS[3].hash), 1)) == ""


def test_rows_that_were_let_go_are_no_problem() -> None:
    kept = Head(HEAD.newest, 3)
    assert problems(ROWS[2:], kept) == ""
    assert problems(ROWS, kept) == ""  # not gone yet


def rehashed(row: Row, content: bytes) -> Row:
    """As somebody writes it who knows how hashes are made, and leaves the other rows alone."""
    return make_row(Anchor(row.number - 1, row.previous), content)


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([*ROWS[:2], replace(ROWS[2], content=b"other"), *ROWS[3:]], "row 3 was changed"),
        ([*ROWS[:2], rehashed(ROWS[2], b"other"), *ROWS[3:]], "row 4 does not follow row 3"),
        ([*ROWS[:5], rehashed(ROWS[5], b"other")], "row 6 is not the one that the head names"),
        ([*ROWS[:2], *ROWS[3:]], "rows 3 to 3 are missing"),
        (ROWS[2:], "rows 1 to 2 are missing"),
        (ROWS[:4], "ends with row 4 and should go on to row 6"),
        ([], "ends with row 0"),
        ([ROWS[0], replace(ROWS[2], number=2), replace(ROWS[1], number=3), *ROWS[3:]], "row 2 does not follow row 1"),
        ([replace(ROWS[0], previous=b"x" * 32), *ROWS[1:]], "row 1 claims to follow another one"),
    ],
    ids=["edit", "edit and hash", "newest", "delete", "front", "cut", "empty", "order", "beginning"],
)
def test_what_was_done_to_it_is_found(rows: list[Row], what: str) -> None:
    assert what in problems(rows)


def test_a_lost_head_is_a_problem() -> None:
    assert "head is missing" in problems(ROWS, None)


def test_a_head_that_was_noted_elsewhere_shows_that_all_was_made_anew() -> None:
    noted = Anchor(3, ROWS[2].hash)
    forged = chain(0)
    newest = EMPTY.newest
    for number in range(6):
        forged.append(make_row(newest, b"forged %d" % number))
        newest = Anchor(forged[-1].number, forged[-1].hash)
    assert problems(forged, Head(newest, 1)) == ""
    assert "row 3 is not the one that is known from elsewhere" in problems(forged, Head(newest, 1), noted)
    assert "row 9, which is known from elsewhere, is not here" in problems(ROWS, HEAD, Anchor(9, bytes(32)))


def test_problems_are_bounded() -> None:
    check = ChainCheck(HEAD)
    for row in chain(50):
        check.add(replace(row, content=b""))
    assert len(check.finish()) == PROBLEMS_MAX


def test_a_head_survives_its_file() -> None:
    assert decode_head_untrusted(encode_head(HEAD)) == HEAD
    assert decode_head_untrusted(encode_head(EMPTY)) == EMPTY


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"meshd-audit 2 1 " + HEAD.newest.text.encode(),
        b"meshd-audit 1 0 " + HEAD.newest.text.encode(),
        b"meshd-audit 1 8 " + HEAD.newest.text.encode(),
        b"meshd-audit 1 1 6:zz",
        b"meshd-audit 1 1 6:" + b"zz" * 32,
        encode_head(HEAD)[:-20],
    ],
)
def test_what_is_no_head(data: bytes) -> None:
    with pytest.raises(HeadError):
        decode_head_untrusted(data)


def test_an_anchor_is_what_status_shows() -> None:
    assert parse_anchor_untrusted(HEAD.newest.text) == HEAD.newest
    with pytest.raises(HeadError, match="no head of an audit log"):
        parse_anchor_untrusted("17")


def test_an_entry_is_bounded_and_says_what_it_left_out() -> None:
    entry = json.loads(encode_entry({"action": "emcon.set", "details": {"reason": "x" * 5000}}))
    assert entry["action"] == "emcon.set"
    assert entry["details"]["left_out_bytes"] > ENTRY_SIZE_MAX_BYTES
