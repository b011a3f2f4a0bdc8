# SPDX-License-Identifier: Apache-2.0
"""Machines with their real seals and tags: bundles arrive, and a key roll in the middle loses nothing."""

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from meshd.bundle.eid import Eid
from meshd.cl.fountain.opener import Opener
from meshd.cl.fountain.ports import Open, Seal, Tags
from meshd.cl.fountain.sealer import Sealer
from meshd.cl.fountain.settings import FountainSettings, PeerSettings
from meshd.security.boot_number import DurableBootNumber
from meshd.security.link_keys import LinkKeys
from meshd.security.pairwise import PairwiseKeys
from tests.sim.fountain_world import World, independent

BEARER = "satcom0"
KEYS = LinkKeys({1: b"\x01" * 32, 2: b"\x02" * 32}, 1)
AHEAD = 850


class SealedWorld(World):
    """Every node has its own keys."""

    def make_security(
        self, settings: FountainSettings, peers: Sequence[PeerSettings], boot: int
    ) -> tuple[Seal, Open, Tags]:
        """The real ones; private keys that follow from the place in the list, since chance is not wanted here."""
        private = {name: X25519PrivateKey.from_private_bytes(bytes([1 + i]) * 32) for i, name in enumerate(self.names)}
        public: dict[Eid, bytes] = {name: key.public_key().public_bytes_raw() for name, key in private.items()}
        sealer = Sealer(settings.node, BEARER, KEYS, DurableBootNumber(boot))
        opener = Opener(self.names, BEARER, KEYS, {}, AHEAD, sealer)
        return sealer, opener, PairwiseKeys(settings.node, private[settings.node], public, KEYS)


def _roll(world: World, index: int) -> None:
    machine, keys = world.nodes[index].machine, KEYS.use_newest()
    for each in (machine._seal, machine._opener, machine._tags):
        assert isinstance(each, Sealer | Opener | PairwiseKeys)
        each.roll(keys)


def test_sealed_bundles_arrive_over_a_key_roll() -> None:
    world = SealedWorld(3)
    world.losses = {pair: independent(world.rng, 0.05) for pair in ((0, 1), (1, 0))}
    world.corrupt = 0.01
    world.build()
    world.time.run_until(world.time.now + 3)
    first, second = world.nodes
    bundles = [world.rng.randbytes(300_000) for _ in range(8)]
    for number, data in enumerate(bundles):
        first.send(second.settings.node, number, data)
    world.time.run_until(world.time.now + 0.8)
    _roll(world, 0)
    world.time.run_until(world.time.now + 0.8)
    _roll(world, 1)
    world.time.run_until(world.time.now + 5)
    assert set(second.received) == set(bundles)
    assert len(first.acknowledged) == len(bundles)
    assert second.copies == len(bundles)
    assert not first.machine.faults["ack"]
