# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: small files that the daemon reads at start: EMCON order, shaping record, link keys and their like."""

import hashlib
import math

from meshd.base.errors import SettingsError
from meshd.bundle.eid import parse_eid
from meshd.daemon.silent_neighbours import SilentNeighboursError, pack_silent, parse_silent_untrusted
from meshd.emcon.order import Order, OrderState, StateError, decode_state_untrusted, encode_state
from meshd.linux.shaping import ShapingRecordError, decode_record_untrusted, encode_record
from meshd.security.boot_number import pack_boot_number, parse_boot_number_untrusted
from meshd.security.link_keys import LinkKeys, pack_link_keys, parse_link_keys_untrusted
from meshd.security.link_peers import pack_link_peers, parse_link_peers_untrusted
from meshd.security.replay_window import Mark, pack_marks, parse_marks_untrusted


def check(data: bytes) -> None:
    """One input: the first byte chooses the file."""
    kind, content = data[:1], data[1:]
    if kind == b"o":
        _check_order(content)
        _check_order(_with_checksum(content))
    elif kind == b"s":
        _check_shaping(content)
    elif kind == b"p":
        _check_link_peers(content)
    elif kind == b"m":
        _check_marks(content)
    elif kind == b"n":
        _check_silent(content)
    elif kind == b"b":
        _check_boot_number(content)
    else:
        _check_link_keys(content)


def _check_order(data: bytes) -> None:
    try:
        state = decode_state_untrusted(data)
    except StateError:
        return
    assert decode_state_untrusted(encode_state(state)) == state


def _with_checksum(data: bytes) -> bytes:
    """Chance alone never gets behind a digest."""
    magic, _, body = data.partition(b"\n")
    body = body.removesuffix(b"\n")
    return magic[: magic.rfind(b" ") + 1] + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _check_shaping(data: bytes) -> None:
    try:
        record = decode_record_untrusted(data)
    except ShapingRecordError:
        return
    assert encode_record(record) == data


def _check_link_keys(data: bytes) -> None:
    try:
        keys = parse_link_keys_untrusted(data, "fuzz.keys")
    except SettingsError:
        return
    assert parse_link_keys_untrusted(pack_link_keys(keys), "again") == keys


def _check_link_peers(data: bytes) -> None:
    try:
        peers = parse_link_peers_untrusted(data, "fuzz.peers")
    except SettingsError:
        return
    assert parse_link_peers_untrusted(pack_link_peers(peers), "again") == peers


def _check_marks(data: bytes) -> None:
    try:
        marks = parse_marks_untrusted(data, "fuzz.marks")
    except SettingsError:
        return
    assert parse_marks_untrusted(pack_marks(marks), "again") == marks


def _check_silent(data: bytes) -> None:
    try:
        silent = parse_silent_untrusted(data)
    except SilentNeighboursError:
        return
    assert parse_silent_untrusted(pack_silent(silent)) == silent


def _check_boot_number(data: bytes) -> None:
    try:
        number = parse_boot_number_untrusted(data, "fuzz.boot")
    except SettingsError:
        return
    assert pack_boot_number(number) == data


def seeds() -> dict[str, bytes]:
    """One of each."""
    order = Order("quiet", "alice", "crossing", 820_454_400_000, None)
    return {
        "order": b"o" + encode_state(OrderState(order, True, Order("open", "bob", None, None, 5))),
        "shaping": b"s" + encode_record(()),
        "link_keys": b"k" + pack_link_keys(LinkKeys({1: bytes(32), 7: bytes(range(32))}, 7)),
        "link_peers": b"p" + pack_link_peers({parse_eid("dtn://dpop1/"): bytes(32), parse_eid("ipn:3.0"): b"k" * 32}),
        "marks": b"m" + pack_marks({parse_eid("dtn://dpop1/"): Mark(1_800_000_000, 1 << 40)}),
        "silent": b"n" + pack_silent({parse_eid("dtn://dpop2/"): 1_777_629_600_000.0, parse_eid("ipn:3.0"): math.inf}),
        "boot": b"b" + pack_boot_number(1_800_000_000),
    }


def dictionary() -> list[bytes]:
    """Words."""
    return [
        b"epoch ",
        b"current ",
        b"boot ",
        b"dtn://a/ ",
        b'"before": null',
        b'"order": {',
        b"true",
        b"null",
        b"1e9",
        b"NaN",
        b"\\ud800",
    ]
