# SPDX-License-Identifier: Apache-2.0
"""Streams for operators: `streams.*` of the control protocol, and the inputs that streams come from.

A stream is fed by a socket of the daemon, or by the client that began it, in portions; a client that goes away ends its
stream. Files and pipes are the clients': the daemon opens none for them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from meshd.base.errors import SettingsError, StoreError
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.errors import EidError
from meshd.bundle.precedence import parse_precedence
from meshd.control.errors import ControlError
from meshd.control.words import DATA_SIZE_MAX_BYTES
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.dtn_clock import monotonic_s, wall_ms
from meshd.daemon.streams.about import About, Terms
from meshd.daemon.streams.figures import describe
from meshd.daemon.streams.ingest import Ingest, InputWatch
from meshd.daemon.streams.player import Reader
from meshd.daemon.streams.post import Arrival, StreamPost
from meshd.daemon.streams.publication import Means, Publication
from meshd.daemon.streams.streams import Streams
from meshd.daemon.streams.udp_address import parse_udp_address
from meshd.daemon.streams.udp_socket import UdpError, UdpInput
from meshd.daemon.streams.watching import Watching
from meshd.stream.announcement import LABEL_CHARACTERS_MAX, RECEIVERS_MAX, Announcement, check_name
from meshd.stream.endpoints import GROUP_NAME, is_stream_group, live_endpoint
from meshd.stream.piece import VERSION, Tier, stream_id

TIER_CHOICES: Final = {"auto": Tier.REST, "key-frames": Tier.KEY_FRAMES, "metadata": Tier.METADATA}
PUBLISHED_MAX: Final = 32
WAITING_S: Final = 60.0
"""The longest that a client waits for something to be shown."""

Report = Callable[[str, Mapping[str, Any]], None]


class _Running:
    """A stream of this node and what feeds it."""

    def __init__(self, publication: Publication, owner: SessionHandle | None, report: Report) -> None:
        self.publication = publication
        self.owner = owner
        """The client that feeds it; None: a socket does."""
        self.watch = InputWatch(publication, report)
        self.scope = trio.CancelScope()
        self.ingest: Ingest | None = None
        self.port: int | None = None
        """Where it listens."""


class StreamDesk:
    """Serves `streams.*`."""

    def __init__(
        self,
        means: Means,
        streams: Streams,
        watching: Watching,
        own_node: Eid,
        groups: Callable[[], Mapping[Eid, frozenset[Eid]]],
        report: Report,
    ) -> None:
        """Args: `groups`: the members of each group."""
        self.post: StreamPost = means.post
        self.streams = streams
        self._watching = watching
        self._own_node = own_node
        self._groups = groups
        self._report = report
        self._running: dict[int, _Running] = {}
        self._readers: dict[int, tuple[SessionHandle, str, Reader]] = {}
        self._numbers = 0
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read the archives, take up what was under way, and go on until cancelled.

        Errors: StoreError: the folder of the archives can't be used.
        """
        library = self.streams.library
        try:
            found = await trio.to_thread.run_sync(library.recover)
        except OSError as error:
            reason = f"the archive of streams in {library.folder} can't be read: {error.strerror}"
            raise StoreError(f"{reason}; give it to meshd's user, or change [streams] folder") from error
        self.streams.recover(found)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._watching.run)
            self.groups_changed()
            for about in self.streams.take_wanted():
                self._resume(about)
            nursery.start_soon(self.streams.run)
            task_status.started()

    async def close(self) -> None:
        """The node ends."""
        if self._nursery is not None:
            await self.streams.close()
            self._nursery.cancel_scope.cancel()

    def groups_changed(self) -> None:
        """Receive for this node's groups of streams."""
        own = [each for each, members in self._groups().items() if self._own_node in members and is_stream_group(each)]
        self.post.attach(own)

    def take(self, arrival: Arrival) -> None:
        """A bundle of a stream arrived."""
        self.streams.take(arrival)

    def session_closed(self, session: SessionHandle) -> None:
        """What it fed ends, and it watches nothing any more."""
        for number, running in list(self._running.items()):
            if running.owner is session:
                self._finish(number, "the client that fed it has gone")
        for number, (owner, name, reader) in list(self._readers.items()):
            if owner is session:
                del self._readers[number]
                self._watching.remove_reader(name, reader)

    # Methods

    async def publish(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`streams.publish`."""
        name, problem = params["name"], check_name(params["name"])
        if problem is not None:
            raise ControlError("bad_params", f"{name!r}: {problem}")
        if any(each.publication.about.announcement.name == name for each in self._running.values()):
            raise ControlError("failed", f"stream {name!r} is published already: stop it first, or choose another name")
        if len(self._running) >= PUBLISHED_MAX:
            raise ControlError("failed", f"{PUBLISHED_MAX} streams are published already: stop one")
        label = params["label"]
        if len(label) > LABEL_CHARACTERS_MAX or not label.isprintable():
            raise ControlError("bad_params", f"a label has at most {LABEL_CHARACTERS_MAX} printable characters")
        receivers = self._destinations(params["to"])
        terms = Terms(
            params["input"] or "",
            int(parse_precedence(params["precedence"])),
            TIER_CHOICES[params["tiers"]],
            params["window_ms"],
            bool(params["input"]),
        )
        try:
            number, running = self._begin(name, params["latency_ms"], label, receivers, terms, session)
        except (SettingsError, UdpError) as error:
            raise ControlError("bad_params", str(error)) from error
        return {
            "stream": running.publication.stream.hex(),
            "feed": number,
            "receivers": [each.uri for each in receivers],
            "port": running.port,
        }

    async def feed(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`streams.feed`."""
        running = self._running.get(params["feed"])
        if running is None or running.owner is not session:
            raise ControlError("not_found", f"feed {params['feed']} is not one of this session's; the stream has ended")
        now = monotonic_s()
        if params["data"]:
            running.publication.feed(params["data"], now)
        running.watch.look(now)
        if params["is_last"]:
            self._finish(params["feed"], "its input ended")
        await self.streams.library.wait_for_room()
        return {}

    async def list_streams(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`streams.list`."""
        ids = self.streams.all_ids() if params["name"] is None else [self._find(params["name"])]
        problems = {each.publication.stream: each.watch.problem for each in self._running.values()}
        rows = []
        for stream in ids:
            announcement = self.streams.announcement(stream)
            watch = None if announcement is None else self._watching.watch(announcement.name)
            row = describe(self.streams, stream, watch, monotonic_s())
            rows.append(row | {"input_problem": problems.get(stream)})
        return {"streams": rows}

    async def watch(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`streams.watch`."""
        try:
            output = await self._watching.add_output(params["name"], params["output"], params["latency_ms"])
        except (SettingsError, UdpError) as error:
            raise ControlError("bad_params", str(error)) from error
        except OSError as error:
            raise ControlError("failed", f"outputs can't be kept over a restart: {error.strerror}") from error
        return {"output": output.address.text, "is_known": self.streams.find(params["name"]) is not None}

    async def open(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`streams.open`."""
        try:
            reader = self._watching.add_reader(params["name"], params["latency_ms"])
        except SettingsError as error:
            raise ControlError("failed", str(error)) from error
        self._numbers += 1
        self._readers[self._numbers] = session, params["name"], reader
        return {"reader": self._numbers, "is_known": self.streams.find(params["name"]) is not None}

    async def next(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`streams.next`."""
        row = self._readers.get(params["reader"])
        if row is None or row[0] is not session:
            raise ControlError("not_found", f"reader {params['reader']} is not one of this session's")
        timeout_s = WAITING_S if params["timeout_s"] is None else min(params["timeout_s"], WAITING_S)
        data = await row[2].read(DATA_SIZE_MAX_BYTES, timeout_s)
        return {"data": data, "has_ended": row[2].is_drained, "lost_bytes": row[2].lost_bytes}

    async def read(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`streams.read`."""
        stream = self._find(params["name"])
        archive, span, offset = self.streams.library.archives[stream], params["span"], params["offset"]
        manifest = await trio.to_thread.run_sync(archive.read_manifest, span)
        if manifest is None:
            raise ControlError("not_found", f"span {span} of stream {params['name']!r} is not archived here")
        data, wrong = await trio.to_thread.run_sync(archive.read_span, manifest)
        if wrong:
            what = f"{len(wrong)} pieces of span {span} of stream {params['name']!r} are missing"
            raise ControlError(
                "not_found", f"{what}; they are asked for as soon as a node that has them can be reached"
            )
        end = offset + DATA_SIZE_MAX_BYTES
        return {"data": data[offset:end], "size_bytes": len(data), "offset": manifest.offset}

    async def stop(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`streams.stop`."""
        name, stopped = params["name"], 0
        if params["output"] is None:
            for number, running in list(self._running.items()):
                if running.publication.about.announcement.name == name:
                    self._finish(number, "stopped by an operator")
                    stopped += 1
        try:
            stopped += await self._watching.remove_output(name, params["output"])
        except OSError as error:
            raise ControlError("failed", f"what is stopped can't be kept over a restart: {error.strerror}") from error
        if not stopped:
            raise ControlError(
                "not_found", f"nothing of stream {name!r} runs here: it is neither published nor put out"
            )
        return {"stopped": stopped}

    async def remove(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`streams.remove`."""
        stream = self._find(params["name"])
        publication = self.streams.published.get(stream)
        if publication is not None and not publication.is_over:
            raise ControlError("failed", f"stream {params['name']!r} is being published: stop it first")
        size_bytes = self.streams.library.archives[stream].size_bytes
        try:
            await self.streams.remove(stream)
        except OSError as error:
            raise ControlError("failed", f"its files can't be removed: {error.strerror}") from error
        return {"stream": stream.hex(), "size_bytes": size_bytes}

    # Parts

    def _begin(
        self,
        name: str,
        latency_ms: int,
        label: str,
        receivers: list[Eid],
        terms: Terms,
        session: SessionHandle | None,
    ) -> tuple[int, _Running]:
        """Errors: SettingsError, UdpError: the input is of no use."""
        address = parse_udp_address(terms.input) if terms.input else None
        socket = None if address is None else UdpInput(address)
        began_ms = wall_ms()
        announcement = Announcement(
            VERSION,
            stream_id(self._own_node.uri, name, began_ms),
            name,
            self._own_node.uri,
            began_ms,
            latency_ms,
            label,
            [each.uri for each in receivers],
            0,
            0,
            False,
        )
        publication = self.streams.publish(About(announcement, terms), receivers)
        self._numbers += 1
        running = _Running(publication, session if socket is None else None, self._report)
        self._running[self._numbers] = running
        if socket is not None and address is not None:
            running.port = socket.port
            running.ingest = Ingest(socket, publication, running.watch, is_rtp=address.scheme == "rtp")
            assert self._nursery is not None, "it runs"
            self._nursery.start_soon(self._run_ingest, running)
        return self._numbers, running

    async def _run_ingest(self, running: _Running) -> None:
        assert running.ingest is not None
        with running.scope:
            await running.ingest.run()

    def _resume(self, about: About) -> None:
        """Begin the next stream of this name after a restart."""
        announcement, terms = about.announcement, about.terms
        assert terms is not None
        try:
            receivers = [parse_eid(each) for each in announcement.receivers]
            self._begin(announcement.name, announcement.latency_ms, announcement.label, receivers, terms, None)
        except (SettingsError, UdpError, EidError) as error:
            reason = f"stream {announcement.name!r} is not published again after the restart: {error}"
            self._report("stream.alarm", {"reason": reason})

    def _finish(self, number: int, reason: str) -> None:
        running = self._running.pop(number)
        running.scope.cancel()
        self.streams.finish(running.publication, reason)

    def _find(self, name: str) -> bytes:
        stream = self.streams.find(name)
        if stream is None:
            raise ControlError("not_found", f"no stream {name!r} is known here; `meshctl stream list` shows all")
        return stream

    def _destinations(self, words: list[str]) -> list[Eid]:
        if not 0 < len(words) <= RECEIVERS_MAX:
            raise ControlError("bad_params", f"a stream goes to 1 to {RECEIVERS_MAX} groups and nodes")
        return [self._destination(word) for word in words]

    def _destination(self, word: str) -> Eid:
        """A group of streams, by its endpoint or its name, or a node."""
        text = word if ":" in word else f"dtn://{word}/"
        try:
            eid = parse_eid(text)
        except EidError as error:
            raise ControlError("bad_params", f"{word!r}: {error}") from error
        group = Eid(f"{eid.node.uri}{GROUP_NAME}") if eid.is_node and eid.uri.startswith("dtn:") else eid
        if group in self._groups():
            if not is_stream_group(group):
                text = f"{group.uri} is no group of streams: name one {group.node.uri}{GROUP_NAME}"
                raise ControlError("bad_params", text)
            return group
        if not eid.is_node:
            raise ControlError("bad_params", f"{word!r} is neither a node nor a group that [[group]] describes")
        if eid == self._own_node:
            raise ControlError("bad_params", f"{word!r} is this node, which has the stream anyway")
        return live_endpoint(eid)


def holders_of(
    own_node: Eid, groups: Callable[[], Mapping[Eid, frozenset[Eid]]], seconds_to: Callable[[Eid], float]
) -> Callable[[Announcement], list[Eid]]:
    """Who may have a stream: its publisher and its receivers, as far as a way leads there, the nearest first."""

    def holders(announcement: Announcement) -> list[Eid]:
        nodes = {parse_eid(announcement.source)}
        for text in announcement.receivers:
            eid = parse_eid(text)
            nodes |= groups().get(eid, frozenset()) if is_stream_group(eid) else {eid.node}
        ways = sorted((seconds_to(node), node.uri, node) for node in nodes - {own_node})
        return [node for seconds, _, node in ways if seconds != float("inf")]

    return holders
