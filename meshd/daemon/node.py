# SPDX-License-Identifier: Apache-2.0
"""The composition root: one node put together from its configuration, and run.

Order of a start: the emission gate first, then the store, then the control socket, then the bearers. Order of an end:
the bearers say goodbye where they may, the store commits what it has, and the gate of radiating bearers shuts when its
lease ends.
"""

import gc
import random
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from meshd.base.errors import SettingsError, StoreError
from meshd.base.version import __version__
from meshd.bearer.bearer import Bearer
from meshd.bearer.fountain import FountainBearer
from meshd.bearer.modem_word import modem_maker
from meshd.bearer.mtcp import MtcpAdapter
from meshd.bearer.tcp import TcpBearer
from meshd.bundle.record import BundleId, PayloadRef
from meshd.control.errors import ControlError
from meshd.control.server_session import HelloInfo
from meshd.daemon.aap2_server import Aap2Server
from meshd.daemon.audit_desk import AuditDesk
from meshd.daemon.contact_desk import PLAN_FILE, ContactDesk
from meshd.daemon.control_server import ControlServer
from meshd.daemon.device_watch import DeviceWatch
from meshd.daemon.dtn_clock import CLOCK_UNCERTAINTY_MS, DtnClock, monotonic_s, wall_ms
from meshd.daemon.emission_wiring import NodePart, make_emission
from meshd.daemon.engine import Engine
from meshd.daemon.event_hub import EventHub
from meshd.daemon.journal import Journal
from meshd.daemon.mission import mission_nodes, named_nodes, own_groups, start_advertising
from meshd.daemon.posture_followers import PostureFollowers
from meshd.daemon.queries import Queries
from meshd.daemon.radio_state import RadioState, load_link_files, load_signing_files
from meshd.daemon.receivers import Receivers
from meshd.daemon.route_desk import RouteDesk
from meshd.daemon.service import Service
from meshd.daemon.signals import handle_signals
from meshd.daemon.silence_desk import SilenceDesk
from meshd.daemon.state_file import make_directory
from meshd.daemon.streams.wiring import make_stream_desk
from meshd.daemon.submissions import Submissions
from meshd.daemon.time_floor import TimeFloor
from meshd.daemon.timer import AgentTimer, every
from meshd.daemon.tls import load_identity
from meshd.daemon.watchdog import feed_watchdog
from meshd.emcon.gate import EmissionGate
from meshd.link.settings import BearerSettings, Posture
from meshd.linux.memory import give_back_memory, keep_freed_memory
from meshd.linux.neighbour_table import NeighbourTable
from meshd.linux.sd_notify import SdNotify
from meshd.node.agent import Agent
from meshd.node.commands import StreamCommand, WriteStore
from meshd.node.events import ClockStepped, DataUnreadable, Event, StoreRecovered, TimerFired
from meshd.routing.contact_router import ContactRouter
from meshd.settings.compare import compare, merge
from meshd.settings.configuration import Configuration
from meshd.settings.load import load
from meshd.store.disk import RealDisk
from meshd.store.segment_log import SegmentLog
from meshd.store.writer import StoreWriter

CERTIFICATE_WATCH_S: Final = 6 * 3600.0
STORE_DIRECTORY: Final = "store"
TIME_FLOOR_FILE: Final = "time.floor"


class Node:
    """One running meshd."""

    def __init__(self, configuration: Configuration, config_path: Path, gate: EmissionGate) -> None:
        self._configuration = configuration
        self._config_path = config_path
        self._journal = Journal()
        self._hub = EventHub(wall_ms)
        self._notify = SdNotify()
        self._clock = DtnClock()
        self._state_dir = Path(configuration.node.state_dir)
        make_directory(self._state_dir)
        self._disk = RealDisk(self._state_dir / STORE_DIRECTORY)
        self._log = SegmentLog(self._disk)
        now = monotonic_s()
        signing = load_signing_files(configuration)
        self._link_files = load_link_files(configuration)
        self._contacts = ContactDesk(
            self._state_dir / PLAN_FILE, self.report, self._dispatch, lambda: named_nodes(self._configuration)
        )
        self._router = ContactRouter(configuration.node.id, self._contacts.plan, configuration.routes)
        self._agent = Agent(
            configuration.node,
            configuration.bearers,
            configuration.neighbours,
            self._router,
            mission_nodes(configuration, signing, self._link_files),
            now,
        )
        start_advertising(self._agent, configuration, signing, now)
        self._writer = StoreWriter(
            self._log,
            lambda results: self._engine.stored(results),
            self._store_trouble,
            lambda: self._agent.dtn_ms(monotonic_s()),
            lambda results: self._engine.streamed(results),
            lambda ids, text: self._engine.dispatch(DataUnreadable(ids, text)),
            # An order of silence must not wait for a disk that hangs.
            may_wait=not any(bearer.radiating for bearer in configuration.bearers),
        )
        self._timer = AgentTimer(lambda: self._engine.dispatch(TimerFired()))
        own_node, is_trusted = configuration.node.id, configuration.node.clock_trusted
        self._floor = TimeFloor(self._state_dir / TIME_FLOOR_FILE)
        self._tls = load_identity(configuration, self._floor)
        self._radio_state = RadioState(self._state_dir, lambda: wall_ms() // 1000 if is_trusted else None)
        self._bearers = {
            bearer.name: Bearer(
                bearer.name,
                configuration.neighbours,
                self._dispatch,
                partial(self._make_tcp, bearer),
                partial(self._make_mtcp, bearer),
                partial(self._make_fountain, bearer),
                modem_maker(bearer, self.report, random.Random(secrets.randbits(64))),
            )
            for bearer in configuration.bearers
        }
        self._audit = AuditDesk(self._state_dir, self.report, lambda: self._configuration.node.clock_trusted)
        part = NodePart(
            lambda: self._configuration,
            self.report,
            self._agent.links.links,
            self._postures_changed,
            self._tell_postures,
            self._is_here,
        )
        made = make_emission(part, gate, self._audit, self._bearers, self._state_dir)
        self._emission, self._record, self._breaker = made
        self._postures: dict[str, Posture] = {}
        followed = (configuration.bearers, NeighbourTable(), self._emission.hook_ran, self._record.report)
        self._followers = PostureFollowers(*followed)
        routes = RouteDesk(self._agent, self._router, own_node)
        self._queries = Queries(self._agent, self._hub, self._dispatch, routes.arithmetic)
        submissions = Submissions(self._dispatch, own_node, lambda: self._configuration.node.lifetime_ms)
        receivers = Receivers(
            self._dispatch, self.read_piece, self._is_here, own_node, lambda: own_groups(self._configuration)
        )
        self._streams = make_stream_desk(
            self._orders, routes, self._dispatch, self.read_piece, self._is_here, self.report
        )
        is_neighbour = self._agent.links.is_neighbour
        self._silence = SilenceDesk(self._bearers, self._dispatch, is_neighbour, wall_ms, self._state_dir, self.report)
        self._service = Service(
            agent=self._agent,
            settings=lambda: self._configuration.node,
            hub=self._hub,
            queries=self._queries,
            submissions=submissions,
            receivers=receivers,
            emission=self._emission,
            silence=self._silence,
            record=self._record,
            breaker=self._breaker,
            audit=self._audit,
            contacts=self._contacts,
            routes=routes,
            streams=self._streams,
            snapshots=lambda: [row for bearer in self._bearers.values() for row in bearer.snapshot()],
            reload=self._reload_for_client,
        )
        self._engine = Engine(
            self._agent,
            own_node,
            store=self,
            bearers=self._bearers,
            applications=self._service,
            report=self.report,
            set_timer=self._timer.set,
            clock=monotonic_s,
        )
        self._stop = trio.Event()

    def _make_tcp(self, bearer: BearerSettings, dispatch: Callable[[Event], None]) -> TcpBearer:
        configuration = self._configuration
        rng = random.Random(secrets.randbits(64))
        return TcpBearer(bearer, configuration.neighbours, configuration.node.id, dispatch, self.report, rng, self._tls)

    def _make_mtcp(self, bearer: BearerSettings, dispatch: Callable[[Event], None]) -> MtcpAdapter:
        rng = random.Random(secrets.randbits(64))
        return MtcpAdapter(bearer, self._configuration.neighbours, dispatch, self.report, rng)

    def _make_fountain(self, bearer: BearerSettings, dispatch: Callable[[Event], None]) -> FountainBearer:
        return FountainBearer(
            bearer,
            self._configuration.neighbours,
            self._configuration.node.id,
            dispatch,
            self.report,
            random.Random(secrets.randbits(64)),
            self._link_files,
            self._radio_state,
            NeighbourTable(),
            lambda: self._agent.dtn_ms(monotonic_s()),
        )

    # Ports

    def prepare(self, group: WriteStore) -> bool:
        """StorePort."""
        return self._writer.prepare(group)

    def submit(self, group: WriteStore) -> None:
        """StorePort."""
        self._writer.submit(group)

    def stream(self, command: StreamCommand) -> None:
        """StorePort."""
        self._writer.stream(command)

    def read(self, ref: PayloadRef) -> bytes:
        """StorePort."""
        return self._log.read(ref)

    def read_piece(self, ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
        """StorePort."""
        return self._log.read_piece(ref, offset, size_bytes)

    def report(self, kind: str, fields: Mapping[str, Any]) -> None:
        """To the journal, to `meshctl events`, and to those who wait for a message."""
        self._journal.write(kind, fields)
        self._hub.publish(kind, dict(fields))
        if kind.startswith("message."):
            self._queries.message_changed()

    # Running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until SIGTERM or SIGINT."""
        self.report("node.starting", {"node": self._configuration.node.id.uri, "version": __version__})
        await self._emission.start()
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._audit.run)
                await nursery.start(handle_signals, self._stop, self._reload_on_signal)
                await self._recover(nursery)
                nursery.start_soon(self._timer.run)
                nursery.start_soon(self._clock.watch, self._clock_stepped)
                nursery.start_soon(every, CERTIFICATE_WATCH_S, self._warn_of_certificates)
                if self._configuration.node.clock_trusted:
                    nursery.start_soon(self._floor.run, lambda reason: self.report("tls.warning", {"reason": reason}))
                await nursery.start(self._emission.run)
                nursery.start_soon(self._followers.run)
                await nursery.start(self._control_server().serve)
                if self._configuration.aap2 is not None:
                    own_node = self._configuration.node.id
                    aap2 = Aap2Server(self._configuration.aap2, own_node, self._service, self.report, self._audit)
                    await nursery.start(aap2.serve)
                await nursery.start(self._streams.run)
                await self._silence.restore()
                for bearer in self._bearers.values():
                    await nursery.start(bearer.run)
                nursery.start_soon(DeviceWatch(self._configuration.bearers, self._bearers, self.report).run)
                nursery.start_soon(feed_watchdog, self._notify)
                self._notify.ready(f"{self._configuration.node.id.uri} is ready")
                self.report("node.ready", {"node": self._configuration.node.id.uri})
                task_status.started()
                await self._stop.wait()
                await self._end()
                nursery.cancel_scope.cancel()
        finally:
            self._emission.close()
            self._disk.close()

    async def _recover(self, nursery: trio.Nursery) -> None:
        """Bring the store's contents back before anybody can ask for them."""
        gc.disable()  # a million bundles are no garbage, and looking through them takes longer than a commit
        now = monotonic_s()
        self._dispatch(ClockStepped(self._clock.utc_offset_ms, self._uncertainty_ms()))
        recovered = await trio.to_thread.run_sync(self._log.recover, self._agent.dtn_ms(now))
        for problem in recovered.damage:
            self.report("store.alarm", {"reason": problem})
        await nursery.start(self._writer.run)
        self._dispatch(StoreRecovered(recovered.records, recovered.known, recovered.notes))
        self.report("store.recovered", {"bundles": len(recovered.records), "known": len(recovered.known)})
        del recovered
        self._tell_postures()
        give_back_memory()
        keep_freed_memory()  # not before: while a store is read back, large tables grow by being copied
        gc.freeze()
        gc.enable()

    async def _end(self) -> None:
        self._notify.stopping()
        self.report("node.stopping", {})
        with trio.move_on_after(3):
            async with trio.open_nursery() as nursery:
                for bearer in self._bearers.values():
                    nursery.start_soon(bearer.shutdown)
        await self._streams.close()
        await self._writer.close()
        await self._audit.close()

    async def _reload_on_signal(self) -> None:
        self._notify.reloading(int(monotonic_s() * 1_000_000))
        with suppress(ControlError):
            await self._reload_for_client()
        self._notify.ready("configuration read again")

    def _clock_stepped(self, offset_ms: int) -> None:
        self.report("clock.stepped", {"utc_offset_ms": offset_ms})
        self._dispatch(ClockStepped(offset_ms, self._uncertainty_ms()))

    def _control_server(self) -> ControlServer:
        hello = HelloInfo(self._configuration.node.id.uri, __version__)
        return ControlServer(self._configuration.control, self._service, hello, self._audit)

    # Reload

    async def _reload_for_client(self) -> dict[str, Any]:
        try:
            return await self._reload()
        except SettingsError as error:
            self.report("config.refused", {"reason": str(error)})
            raise ControlError("failed", str(error)) from error

    async def _reload(self) -> dict[str, Any]:
        """Take over what can be taken over; SettingsError leaves everything as it was."""
        new = await trio.to_thread.run_sync(load, self._config_path)
        changed, needs_restart = compare(self._configuration, new)
        configuration = merge(self._configuration, new)
        tls = await trio.to_thread.run_sync(load_identity, configuration, self._floor)
        link_files = await trio.to_thread.run_sync(load_link_files, configuration)
        signing = await trio.to_thread.run_sync(load_signing_files, configuration)
        self._configuration, self._tls, self._link_files = configuration, tls, link_files
        self._router.configure(configuration.routes)
        self._agent.reconfigure(
            configuration.node,
            configuration.neighbours,
            self._router,
            mission_nodes(configuration, signing, link_files),
            monotonic_s(),
        )
        start_advertising(self._agent, configuration, signing, monotonic_s())
        self._streams.groups_changed()
        for name, bearer in self._bearers.items():
            bearer.configure([each for each in configuration.neighbours if each.bearer == name])
            if tls is not None:
                bearer.set_identity(tls)
            if link_files is not None:
                bearer.set_link_files(link_files)
        self._warn_of_certificates()
        await self._emission.reload(configuration.emcon)
        self._tell_postures()
        self.report("config.reloaded", {"changed": ", ".join(changed), "needs_restart": ", ".join(needs_restart)})
        return {"changed": changed, "needs_restart": needs_restart}

    # Small parts

    def _warn_of_certificates(self) -> None:
        for reason in [] if self._tls is None else self._tls.warn():
            self.report("tls.warning", {"reason": reason})

    def _dispatch(self, event: Any) -> None:
        self._engine.dispatch(event)

    def _store_trouble(self, error: StoreError) -> None:
        self.report("store.alarm", {"reason": str(error)})

    def _postures_changed(self, postures: dict[str, Posture]) -> None:
        """Called by emission control between shutting the gate and saying so."""
        self._postures = dict(postures)
        for name, bearer in self._bearers.items():
            bearer.take_posture(postures.get(name, Posture.OPEN))
        self._breaker.postures_changed()
        self._record.postures_changed(postures)
        self._tell_postures()

    def _tell_postures(self) -> None:
        """Also of what is let out beside them."""
        event = self._breaker.event(self._postures)
        self._followers.postures_changed(event.postures, self._configuration.neighbours)
        self._dispatch(event)

    def _orders(self) -> tuple[Configuration, Mapping[str, Posture]]:
        return self._configuration, self._postures

    def _is_here(self, bundle: BundleId) -> bool:
        return self._agent.entry(bundle) is not None

    def _uncertainty_ms(self) -> int | None:
        return CLOCK_UNCERTAINTY_MS if self._configuration.node.clock_trusted else None
