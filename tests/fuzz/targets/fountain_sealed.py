# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: datagrams off the air, to a receiver that knows three epochs and two members.

The first byte chooses: the rest is a datagram as it is, or a header and frames that a member has sealed, or a sealed
datagram with some of its bytes changed. Whatever is opened was sealed by a member, was not opened before, and the
second time it is refused.
"""

from typing import Final

from meshd.bundle.eid import parse_eid
from meshd.cl.fountain.datagram import HEADER_BYTES, MASK_SAMPLE_BYTES, SEAL_BYTES, DatagramError, Fault
from meshd.cl.fountain.opener import SIFTED_MIN, Opener
from meshd.cl.fountain.sealer import Sealer
from meshd.security.boot_number import DurableBootNumber
from meshd.security.datagram_keys import derive_datagram_key, derive_header_mask
from meshd.security.link_keys import LinkKeys
from meshd.security.replay_window import NO_MARK, Mark, ReplayWindow

BEARER: Final = "satcom0"
HERE, THERE, THIRD = (parse_eid(f"dtn://dpop{number}/") for number in (1, 2, 3))
KEYS: Final = LinkKeys({1: b"\x01" * 32, 2: b"\x02" * 32, 3: b"\x03" * 32}, 2)
MARK: Final = Mark(1000, 1 << 20)
_SEALER: Final = Sealer(THERE, BEARER, KEYS, DurableBootNumber(1001))
_MASK: Final = derive_header_mask(KEYS.keys[2], BEARER)
_KEY: Final = derive_datagram_key(KEYS.keys[2], THERE, BEARER)
_OWN: Final = Sealer(HERE, BEARER, KEYS, DurableBootNumber(7))
_OPENER: Final = Opener((HERE, THERE, THIRD), BEARER, KEYS, {}, 2, _OWN)
_SEALED: Final = b"frames of a member"


def check(data: bytes) -> None:
    """One input."""
    kind, content = data[:1], data[1:]
    opener = _opener()
    if kind == b"h":
        _check_header(opener, content)
    elif kind == b"c":
        _check_changed(opener, content)
    else:
        assert _open(opener, content) is not None, "bytes of chance were opened"


def _opener() -> Opener:
    """One that has heard nothing but what THERE's mark says; deriving its keys anew would take most of the time."""
    for node, window in _OPENER._windows.items():
        vars(window).update(vars(ReplayWindow(MARK if node == THERE else NO_MARK, 1 << 20)))
    _OPENER._waiting.clear()
    return _OPENER


def _open(opener: Opener, datagram: bytes) -> Fault | None:
    """Also sifted: what is dropped cheaply would be refused for the same reason."""
    left, dropped = opener.sift_untrusted([datagram] * SIFTED_MIN)
    fault = None
    try:
        opener.open_untrusted(datagram)
    except DatagramError as error:
        fault = error.fault
    assert left or (fault and dropped[fault] == SIFTED_MIN)
    return fault


def _check_header(opener: Opener, content: bytes) -> None:
    """A member that seals whatever header it likes, masked as it should be."""
    header, plaintext = content[:HEADER_BYTES].ljust(HEADER_BYTES, b"\0"), content[HEADER_BYTES:]
    sealed = _KEY.encrypt(header, plaintext, None)
    datagram = _MASK(sealed[:MASK_SAMPLE_BYTES], header) + sealed
    fault = _open(opener, datagram)
    boot, counter = int.from_bytes(header[2:6]), int.from_bytes(header[6:])
    index = int.from_bytes(header[:2])
    is_good = index == _SEALER.index and Mark(boot, counter) > MARK and bool(plaintext)
    assert (fault is None) == is_good
    if fault is None:
        assert opener.heard(THERE) == Mark(boot, counter)
        # Another epoch's mask may by chance name a member as well: then the last fault is that it is forged.
        assert _open(opener, datagram) in (Fault.REPLAYED, Fault.TOO_OLD, Fault.FORGED)
        waiting = opener.saved(opener.marks_to_save())
        assert [each.plaintext for each in waiting] == [plaintext]
        assert not opener.saved(opener.marks_to_save())


def _check_changed(opener: Opener, content: bytes) -> None:
    """A datagram in which the bytes at some places are changed: pairs of place and difference."""
    datagram = bytearray(_fixed_datagram())
    for place, difference in zip(content[::2], content[1::2], strict=False):
        datagram[place % len(datagram)] ^= difference
    is_intact = bytes(datagram) == _fixed_datagram()
    assert (_open(opener, bytes(datagram)) is None) == is_intact


def _fixed_datagram() -> bytes:
    _SEALER.next_counter = 1
    return _SEALER.seal(_SEALED)


def seeds() -> dict[str, bytes]:
    """Datagrams that are opened, and that are not."""
    index = _SEALER.index.to_bytes(2)
    return {
        "noise": b"n" + bytes(range(64)),
        "short": b"n" + bytes(SEAL_BYTES),
        "member": b"h" + index + (1001).to_bytes(4) + (1).to_bytes(6) + _SEALED,
        "old_boot": b"h" + index + (999).to_bytes(4) + (1).to_bytes(6) + _SEALED,
        "spent": b"h" + index + (1000).to_bytes(4) + (1 << 20).to_bytes(6) + _SEALED,
        "last": b"h" + index + b"\xff" * 10 + _SEALED,
        "stranger": b"h" + b"\0\0" + (1001).to_bytes(4) + (1).to_bytes(6) + _SEALED,
        "intact": b"c",
        "tag_changed": b"c\xff\x01",
        "header_changed": b"c\x00\x01\x02\x80",
    }


def dictionary() -> list[bytes]:
    """Indexes and boot numbers."""
    return [_SEALER.index.to_bytes(2), _OWN.index.to_bytes(2), (1000).to_bytes(4), (1001).to_bytes(4), b"\xff" * 6]
