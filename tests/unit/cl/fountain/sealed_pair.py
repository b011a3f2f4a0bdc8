# SPDX-License-Identifier: Apache-2.0
"""Members of a mission on one bearer for tests: their link keys, and sealers and openers with all that they need."""

from collections.abc import Mapping

from meshd.bundle.eid import Eid, parse_eid
from meshd.cl.fountain.datagram import DatagramError, Fault
from meshd.cl.fountain.opener import Opener
from meshd.cl.fountain.sealer import Sealer
from meshd.security.boot_number import DurableBootNumber
from meshd.security.link_keys import LinkKeys
from meshd.security.replay_window import Mark

BEARER = "satcom0"
HERE, THERE, THIRD = (parse_eid(f"dtn://dpop{number}/") for number in (1, 2, 3))
MEMBERS = (HERE, THERE, THIRD)
AHEAD = 1000
KEYS = LinkKeys({1: b"\x01" * 32}, 1)
ROLLING = LinkKeys({epoch: bytes([epoch]) * 32 for epoch in (1, 2)}, 1)
"""The second epoch is added, and nobody uses it yet."""
ROLLED = ROLLING.use_newest()


def make_sealer(node: Eid = THERE, keys: LinkKeys = KEYS, boot: int = 1, bearer: str = BEARER) -> Sealer:
    return Sealer(node, bearer, keys, DurableBootNumber(boot))


def make_opener(
    keys: LinkKeys = KEYS, marks: Mapping[Eid, Mark] | None = None, own: Sealer | None = None, ahead: int = AHEAD
) -> Opener:
    return Opener(MEMBERS, BEARER, keys, marks or {}, ahead, own)


def open_all(opener: Opener, datagram: bytes) -> list[bytes]:
    """What comes out at once, on a disk that syncs at once."""
    opened = opener.open_untrusted(datagram)
    found = [] if opened is None else [opened]
    if opener.is_saving_wanted:
        found += opener.saved(opener.marks_to_save())
    return [each.plaintext for each in found]


def handed_on(opener: Opener, datagram: bytes) -> list[bytes]:
    """What comes out without waiting; nothing for what is refused."""
    try:
        opened = opener.open_untrusted(datagram)
    except DatagramError:
        return []
    return [] if opened is None else [opened.plaintext]


def fault_of(opener: Opener, datagram: bytes) -> Fault | None:
    try:
        opener.open_untrusted(datagram)
    except DatagramError as error:
        return error.fault
    return None
