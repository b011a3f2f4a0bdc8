# SPDX-License-Identifier: Apache-2.0
"""The fountain convergence layer on one bearer: sealed datagrams with a rateless code (DESIGN section 5).

The shell around `meshd.cl.fountain`. Idle, without a socket, as long as no neighbour of the bearer is configured to
speak it, unless neighbours are to be found. One machine serves all neighbours; it is made anew when the configured ones
change or a member gets other keys, and what was under way begins again then; not when one is found. New link keys alone
are taken over by the running one. Without a boot number that is surely new this node only listens.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Final, Protocol

import trio

from meshd.base.errors import LocalProtocolError, SettingsError
from meshd.bearer.connection import Row
from meshd.bearer.fountain_link import FountainLink
from meshd.bearer.fountain_settings import (
    MTU_MIN_BYTES,
    count_marks_ahead,
    make_fountain_settings,
    make_peers,
    make_places,
    split_by_index,
)
from meshd.bearer.fountain_station import FountainStation
from meshd.bearer.link import Figure
from meshd.bearer.mute_sealer import MuteSealer
from meshd.bearer.pinned_entries import NeighbourPort
from meshd.bearer.problems import Problems, Report
from meshd.bearer.sockets import BearerError, find_mtu_bytes
from meshd.bearer.voice import make_failure
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.cl.fountain.breach import Breach
from meshd.cl.fountain.fountain_code import RaptorQ
from meshd.cl.fountain.machine import Machine
from meshd.cl.fountain.opener import Opener
from meshd.cl.fountain.sealer import Sealer
from meshd.link.identity import LinkId
from meshd.link.settings import BearerSettings, ConvergenceLayer, Direction, NeighbourSettings
from meshd.node.events import Event, TransfersFailed
from meshd.security.boot_number import BootNumberError, DurableBootNumber
from meshd.security.link_files import LinkFiles
from meshd.security.pairwise import PairwiseKeys
from meshd.security.replay_window import Mark

SHUTDOWN_TIMEOUT_S: Final = 2.0
_ONLY_FOUNTAIN: Final = (
    "bearer {} has no neighbour that speaks fountain, and with TCP handshakes, acknowledgements and keepalives would "
    'leave, too: give a neighbour on it cl = "fountain", or order a profile that opens it for a moment '
    "(meshctl emcon set PROFILE --for 10s)"
)


class StatePort(Protocol):
    """What survives a restart. All calls block."""

    def take_boot_number(self) -> DurableBootNumber:
        """The same at every call. Errors: BootNumberError, SettingsError, OSError."""

    def read_marks(self, bearer: str) -> dict[Eid, Mark]:
        """Errors: SettingsError, OSError."""

    def write_marks(self, bearer: str, marks: Mapping[Eid, Mark]) -> None:
        """On return they are on the disk. Errors: OSError."""


class FountainBearer:
    """The fountain part of one bearer."""

    CL: ClassVar[ConvergenceLayer] = ConvergenceLayer.FOUNTAIN

    def __init__(
        self,
        settings: BearerSettings,
        neighbours: Sequence[NeighbourSettings],
        node: Eid,
        dispatch: Callable[[Event], None],
        report: Report,
        rng: random.Random,
        files: LinkFiles | None,
        state: StatePort,
        entries: NeighbourPort,
        dtn_ms: Callable[[], int],
    ) -> None:
        """`dispatch` runs the node, which may call any method here.

        `files` are this node's keys; needed when there are neighbours. `dtn_ms` is the node's reckoning of time.
        """
        self._settings = settings
        self._node = node
        self._dispatch = dispatch
        self._report = report
        self._rng = rng
        self._files = files
        self._state = state
        self._entries = entries
        self._dtn_ms = dtn_ms
        self._problems = Problems(settings.name, report)
        self._neighbours: tuple[NeighbourSettings, ...] = ()
        self._aliens: frozenset[Eid] = frozenset()
        """Neighbours of this bearer by other layers: they are not looked for."""
        self._links: dict[Eid, FountainLink] = {}
        self._station: FountainStation | None = None
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._tags: PairwiseKeys | None = None
        self._used_mtu_bytes = settings.radio.mtu_bytes
        self._silenced: dict[Eid, float] = {}
        """Neighbours that somebody said to be silent, and until when: a station that is made anew has to know."""
        self._is_frozen = False
        self._is_counted = False
        self._is_stopping = False
        self._pace_bps = settings.rate_bps
        self._deferred: list[Event] = []
        self._defer_wanted = trio.Event()
        self._changed = trio.Event()
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self.configure(neighbours)

    @property
    def bound_address(self) -> str | None:
        """Where it listens; None: nowhere at the moment."""
        return self._station.bound_address if self._station else None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until `shutdown` or cancellation. Started when the first attempt to open the socket, if any, is over."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump)
                    await nursery.start(self._serve)
                    task_status.started()
        finally:
            self._ended.set()

    async def shutdown(self) -> None:
        """Stop without a word, once the replay marks are saved."""
        self._is_stopping = True
        self._scope.cancel()
        with trio.move_on_after(SHUTDOWN_TIMEOUT_S):
            await self._ended.wait()

    def configure(self, neighbours: Sequence[NeighbourSettings]) -> None:
        """These are the neighbours from now on; those of other bearers, or with another CL, are passed over."""
        here = [each for each in neighbours if each.bearer == self._settings.name]
        own = tuple(each for each in here if each.cl is self.CL)
        aliens = frozenset(each.node for each in here if each.cl is not self.CL)
        if own != self._neighbours or (self._settings.radio.discovery and aliens != self._aliens):
            self._neighbours, self._aliens = own, aliens
            self._changed.set()

    def device_changed(self) -> None:
        """Its device is another one, is back, or has other addresses or another MTU."""
        if self._station is None:
            return
        if self._mtu_bytes() != self._used_mtu_bytes:
            self._changed.set()
        else:
            self._station.device_changed()

    def _mtu_bytes(self) -> int:
        """Of the packets that leave: no larger than configured, nor than the device takes, while it is there."""
        most = find_mtu_bytes(self._settings.device)
        return min(self._settings.radio.mtu_bytes, max(most, MTU_MIN_BYTES)) if most else self._used_mtu_bytes

    def set_files(self, files: LinkFiles) -> None:
        """This node's keys from now on."""
        before, self._files = self._files, files
        if before is None or before.peers != files.peers or before.private_key is not files.private_key:
            is_same = before is not None and before.peers == files.peers and _public(before) == _public(files)
            if not is_same:
                self._changed.set()
        for user in (self._sealer, self._opener, self._tags):
            if user is not None:
                user.roll(files.keys)

    # What the node wants. Nothing here dispatches.

    def send_bundles(self, link: LinkId, rows: Sequence[Row]) -> None:
        """Send these in order; each comes back as acknowledged or failed."""
        own = self._links.get(link.neighbour)
        if own is None or own.id != link:
            raise LocalProtocolError(f"bearer {self._settings.name} has no link {link} by {self.CL.value}")
        if own.is_up and self._station is not None:
            self._station.send_bundles(own, rows)
            return
        ids = [bundle for bundle, _ in rows]
        failure = make_failure("the node is not heard", session_ended=False)
        self._deferred.append(TransfersFailed(link, ids, failure))
        self._defer_wanted.set()

    def send_urgent(self, link: LinkId, rows: Sequence[Row]) -> None:
        """The same: what is urgent overtakes everything at the next datagram."""
        self.send_bundles(link, rows)

    def announce_silence(self, for_s: int) -> None:
        """Tell all, with the next datagram, that we fall silent; for so long, 0: not said."""
        if self._station is not None:
            self._station.announce_silence(for_s)

    @property
    def is_announcing(self) -> bool:
        """That has not left to all yet."""
        return self._station is not None and self._station.machine.is_announcing

    def set_silent(self, node: Eid, for_s: int | None) -> None:
        """A neighbour is silent for so long (0: not said), and sent to blind; None: it is not."""
        self._silenced.pop(node, None)
        if for_s is not None:
            self._silenced[node] = trio.current_time() + for_s if for_s else math.inf
        if self._station is not None:
            self._station.set_silent(node, for_s)

    def freeze(self) -> None:
        """Silence: nothing is sent from now on; receiving goes on, and groups stay joined."""
        self._is_frozen = True
        if self._station is not None:
            self._station.freeze()

    def break_silence(self, precedence_min: int, bundle: BundleId | None, mark: int) -> None:
        """Until `freeze` or `thaw` bundles from this precedence on leave, or this one alone, with this mark.

        Errors: BearerError: they can't.
        """
        if self._station is None:
            raise BearerError(_ONLY_FOUNTAIN.format(self._settings.name))
        self._station.break_silence(Breach(precedence_min, bundle), mark)

    def count(self, *, is_counted: bool) -> None:
        """From the next `thaw` on: whether the gate counts what leaves."""
        self._is_counted = is_counted

    def thaw(self) -> None:
        """The silence is over."""
        self._is_frozen = False
        if self._station is not None:
            self._station.thaw(is_counted=self._is_counted)

    def set_pace(self, rate_bps: int) -> None:
        """The modem says what it carries now; a rate that is found is found without it."""
        self._pace_bps = rate_bps
        if self._station is not None:
            self._station.machine.set_rate(rate_bps, trio.current_time())

    def snapshot(self) -> list[dict[str, Figure]]:
        """One row of figures for each link."""
        if self._station is not None:
            return self._station.snapshot()
        now = trio.current_time()
        return [link.describe(now) for link in self._links.values()]

    # The life.

    async def _pump(self) -> None:
        """Dispatch what came up inside of a method that the node called."""
        while True:
            await self._defer_wanted.wait()
            self._defer_wanted = trio.Event()
            events, self._deferred = self._deferred, []
            for event in events:
                self._dispatch(event)

    async def _serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One station after the other."""
        while True:
            self._changed = changed = trio.Event()
            station = await self._make_station()
            if station is None:
                task_status.started()
                await changed.wait()
            else:
                try:
                    async with trio.open_nursery() as nursery:
                        await nursery.start(station.run)
                        task_status.started()
                        await changed.wait()
                        nursery.cancel_scope.cancel()
                finally:
                    await self._end_station(station)
            task_status = trio.TASK_STATUS_IGNORED

    async def _end_station(self, station: FountainStation) -> None:
        self._station = None
        if not self._is_stopping:
            station.give_up("its configuration was changed")
        assert self._opener is not None
        marks = self._opener.final_marks()
        self._opener = self._tags = None
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(self._state.write_marks, self._settings.name, marks)
            except OSError as error:
                # Those on the disk are ahead: only some datagrams that come soon after the next start are refused.
                self._problems.report("marks", f"replay marks can't be saved: {error.strerror}")

    async def _make_station(self) -> FountainStation | None:
        """None: there is nothing to do, or it can't be done before something changes."""
        files = self._files
        members = [] if files is None else [each for each in self._neighbours if each.node in files.peers]
        for each in self._neighbours:
            if each not in members:
                remedy = "copy link.peers of the latest `meshctl pki issue`, and reload"
                self._problems.report(each.node.uri, f"there is no public key of {each.node.uri}: {remedy}")
        self._links = {}
        if files is None or not (members or self._settings.radio.discovery):
            return None
        try:
            marks = await trio.to_thread.run_sync(self._state.read_marks, self._settings.name)
            tags = PairwiseKeys(self._node, files.private_key, files.peers, files.keys)
            await self._make_sealer(files)
        except (SettingsError, OSError) as error:
            self._problems.report("keys", str(error))
            return None
        self._problems.clear("keys")
        return self._put_together(files, members, marks, tags)

    async def _make_sealer(self, files: LinkFiles) -> None:
        if self._sealer is not None or self._settings.radio.direction is Direction.RX:
            return
        try:
            boot = await trio.to_thread.run_sync(self._state.take_boot_number)
        except BootNumberError as error:
            self._report("link.alarm", {"bearer": self._settings.name, "reason": f"nothing can be sent: {error}"})
        else:
            self._sealer = Sealer(self._node, self._settings.name, files.keys, boot)

    def _put_together(
        self,
        files: LinkFiles,
        members: Sequence[NeighbourSettings],
        marks: Mapping[Eid, Mark],
        tags: PairwiseKeys,
    ) -> FountainStation:
        name, now = self._settings.name, trio.current_time()
        direction = self._settings.radio.direction if self._sealer else Direction.RX
        self._used_mtu_bytes = self._mtu_bytes()
        settings = make_fountain_settings(self._settings, self._node, direction, self._used_mtu_bytes, self._pace_bps)
        nodes = [each.node for each in members]
        if self._settings.radio.discovery:
            nodes += self._find_others(files, nodes)
        opener = Opener(nodes, name, files.keys, marks, count_marks_ahead(settings), self._sealer)
        seal = self._sealer or MuteSealer(files.keys.current)
        peers = make_peers(name, members)
        machine = Machine(settings, peers, seal, opener, tags, RaptorQ(), self._rng, now)
        links: dict[Eid, FountainLink] = {}
        station = FountainStation(
            self._settings,
            machine,
            links,
            make_places(members),
            partial(self._state.write_marks, name),
            self._entries,
            self._dtn_ms,
            self._dispatch,
            self._report,
            self._rng,
            is_frozen=self._is_frozen,
            is_counted=self._is_counted,
        )
        links.update({each.node: FountainLink(name, each, station, now) for each in members})
        self._links, self._station, self._opener, self._tags = links, station, opener, tags
        for node in [node for node, until in self._silenced.items() if until > now]:
            left_s = self._silenced[node] - now
            station.set_silent(node, 0 if math.isinf(left_s) else math.ceil(left_s))
        return station

    def _find_others(self, files: LinkFiles, named: Sequence[Eid]) -> list[Eid]:
        """Members that are not configured and can be heard."""
        others = sorted(set(files.peers) - {*named, self._node} - self._aliens, key=str)
        found, alike = split_by_index(self._settings.name, [*named, self._node], others)
        if alike:
            names = ", ".join(node.uri for node in alike)
            remedy = "name as [[neighbour]] whom you need, or rename the bearer, at all nodes alike"
            self._problems.report("discovery", f"{names} can't be found, their index is not unique: {remedy}")
        return found


def _public(files: LinkFiles) -> bytes:
    return files.private_key.public_key().public_bytes_raw()
