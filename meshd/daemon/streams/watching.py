# SPDX-License-Identifier: Apache-2.0
"""Who watches which stream: UDP outputs, which outlive restarts, and clients, which do not.

A name is watched, not a stream: when its publisher begins anew the same outputs go on with the new one.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from meshd.base.errors import SettingsError
from meshd.daemon.state_file import read_state, write_state
from meshd.daemon.streams.player import Player, Reader
from meshd.daemon.streams.streams import Streams
from meshd.daemon.streams.udp_address import parse_udp_address
from meshd.daemon.streams.udp_socket import UdpError, UdpOutput

FILE_MAX_BYTES: Final = 1024 * 1024
OUTPUTS_MAX: Final = 64
READERS_MAX: Final = 64

Report = Callable[[str, Mapping[str, Any]], None]
Row = tuple[str, str, int | None]
"""Name, output, latency in ms."""
_DECODER: Final = msgspec.msgpack.Decoder(list[Row])


class Watch:
    """Of one name."""

    def __init__(self, name: str, latency_ms: int | None) -> None:
        self.name = name
        self.latency_ms = latency_ms
        """None: what the publisher says."""
        self.outputs: dict[str, UdpOutput] = {}
        self.readers: list[Reader] = []
        self.stream: bytes | None = None
        self.player: Player | None = None
        self.scope = trio.CancelScope()


class Watching:
    """All of them."""

    def __init__(self, path: Path, streams: Streams, report: Report) -> None:
        self._path = path
        self._streams = streams
        self._report = report
        self._nursery: trio.Nursery | None = None
        self.watches: dict[str, Watch] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Play until cancelled."""
        self._streams.on_begun, self._streams.on_ended = self._begun, self._ended
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._recover()
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                for output in [each for watch in self.watches.values() for each in watch.outputs.values()]:
                    output.close()

    def watch(self, name: str) -> Watch | None:
        """None: nobody watches this name."""
        return self.watches.get(name)

    async def add_output(self, name: str, address: str, latency_ms: int | None) -> UdpOutput:
        """Errors: SettingsError, UdpError: the address is of no use; OSError: it can't be kept."""
        if sum(len(watch.outputs) for watch in self.watches.values()) >= OUTPUTS_MAX:
            raise SettingsError(f"{OUTPUTS_MAX} outputs are open already: stop one")
        output = _open_output(address)
        watch = self._open(name, latency_ms)
        if output.address.text in watch.outputs:
            output.close()
            raise SettingsError(f"{output.address.text} is an output of stream {name!r} already")
        watch.outputs[output.address.text] = output
        self._connect(watch)
        await self._save()
        return output

    async def remove_output(self, name: str, address: str | None) -> int:
        """This output, or all of this name: how many. Errors: OSError: it can't be kept."""
        watch = self.watches.get(name)
        gone = [] if watch is None else [each for each in watch.outputs if address in (None, each)]
        for each in gone:
            assert watch is not None
            watch.outputs.pop(each).close()
        if watch is not None:
            self._drop_unwatched(watch)
        await self._save()
        return len(gone)

    def add_reader(self, name: str, latency_ms: int | None) -> Reader:
        """Errors: SettingsError."""
        if sum(len(watch.readers) for watch in self.watches.values()) >= READERS_MAX:
            raise SettingsError(f"{READERS_MAX} clients watch already")
        watch, reader = self._open(name, latency_ms), Reader()
        watch.readers.append(reader)
        self._connect(watch)
        return reader

    def remove_reader(self, name: str, reader: Reader) -> None:
        """It may be gone already."""
        watch = self.watches.get(name)
        if watch is not None and reader in watch.readers:
            watch.readers.remove(reader)
            self._drop_unwatched(watch)

    def _open(self, name: str, latency_ms: int | None) -> Watch:
        watch = self.watches.get(name)
        if watch is None:
            watch = self.watches[name] = Watch(name, latency_ms)
        return watch

    def _begun(self, stream: bytes, name: str) -> None:
        watch = self.watches.get(name)
        if watch is not None:
            self._connect(watch)

    def _ended(self, stream: bytes) -> None:
        for watch in self.watches.values():
            if watch.stream == stream and watch.player is not None:
                watch.player.expect_end()

    def _connect(self, watch: Watch) -> None:
        """Have the newest stream of its name played."""
        stream = self._streams.find(watch.name)
        announcement = None if stream is None else self._streams.announcement(stream)
        if stream is None or announcement is None:
            return
        if stream != watch.stream or watch.player is None:
            self._stop(watch)
            latency_ms = announcement.latency_ms if watch.latency_ms is None else watch.latency_ms
            watch.stream, watch.player, watch.scope = stream, Player(latency_ms / 1000), trio.CancelScope()
            self._streams.attach(stream, watch.player)
            if announcement.has_ended:
                watch.player.expect_end()
            assert self._nursery is not None, "it runs"
            self._nursery.start_soon(self._play, watch, watch.player, watch.scope)
        watch.player.outputs = list(watch.outputs.values())
        watch.player.readers = list(watch.readers)

    async def _play(self, watch: Watch, player: Player, scope: trio.CancelScope) -> None:
        with scope:
            await player.run()
        if watch.player is player and not scope.cancelled_caught:
            for reader in watch.readers:
                reader.end()

    def _drop_unwatched(self, watch: Watch) -> None:
        if watch.outputs or watch.readers:
            self._connect(watch)
        else:
            self._stop(watch)
            del self.watches[watch.name]

    def _stop(self, watch: Watch) -> None:
        watch.scope.cancel()
        if watch.stream is not None:
            self._streams.detach(watch.stream)
        watch.stream = watch.player = None

    def _recover(self) -> None:
        data = read_state(self._path, FILE_MAX_BYTES)
        try:
            rows = [] if data is None else _DECODER.decode(data)
        except msgspec.DecodeError as error:
            self._report("stream.alarm", {"reason": f"{self._path} can't be read, outputs are not resumed: {error}"})
            return
        for name, address, latency_ms in rows:
            try:
                output = _open_output(address)
            except (SettingsError, UdpError) as error:
                self._report("stream.alarm", {"reason": f"an output of stream {name!r} is not resumed: {error}"})
                continue
            watch = self._open(name, latency_ms)
            watch.outputs[address] = output
            self._connect(watch)

    async def _save(self) -> None:
        rows = [(watch.name, each, watch.latency_ms) for watch in self.watches.values() for each in watch.outputs]
        await trio.to_thread.run_sync(write_state, self._path, msgspec.msgpack.encode(rows))


def _open_output(text: str) -> UdpOutput:
    """Errors: SettingsError, UdpError."""
    address = parse_udp_address(text)
    if address.scheme != "udp" or address.source is not None or not address.port:
        raise SettingsError(f"{text!r} is no output: write udp://HOST:PORT or udp://GROUP:PORT@DEVICE")
    return UdpOutput(address)
