# SPDX-License-Identifier: Apache-2.0
"""`streams.*`: what is asked for is done, or refused with the reason and the remedy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from meshd.bundle.eid import Eid
from meshd.control.errors import ControlError
from meshd.control.methods import METHODS
from meshd.control.params import check_params
from meshd.daemon.dtn_clock import monotonic_s
from meshd.daemon.stream_desk import StreamDesk, holders_of
from meshd.daemon.streams.publication import Means
from meshd.daemon.streams.watching import Watching
from meshd.stream.announcement import Announcement
from tests.unit.daemon.node_bench import Session
from tests.unit.daemon.streams.stream_world import Node, World, clip
from tests.unit.stream.test_announcement import changed_in

GROUPS = {
    Eid("dtn://convoy/~stream"): frozenset((Eid("dtn://alpha/"), Eid("dtn://bravo/"))),
    Eid("dtn://convoy/~orders"): frozenset((Eid("dtn://alpha/"),)),
}
CLIP = clip(3)


class Desk:
    """A desk, and somebody who asks."""

    def __init__(self, desk: StreamDesk, node: Node) -> None:
        self.desk = desk
        self.node = node
        self.session = Session()

    async def ask(self, method: str, session: Session | None = None, **params: Any) -> dict[str, Any]:
        """Checked as the server does."""
        name = {"list": "list_streams"}.get(method, method)
        checked = check_params(f"streams.{method}", METHODS[f"streams.{method}"].params, params)
        answer: dict[str, Any] = await getattr(self.desk, name)(session or self.session, checked)
        return answer

    async def refusal(self, method: str, **params: Any) -> str:
        with pytest.raises(ControlError) as refused:
            await self.ask(method, **params)
        return f"{refused.value.name}: {refused.value}"


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Desk]:
    """One that runs."""
    world = World(folder, "alpha", "bravo")
    node = next(iter(world.nodes.values()))
    node.streams._clock = monotonic_s
    means = Means(node.library, node.post, lambda: True)
    watching = Watching(folder / "outputs", node.streams, node._report)
    desk = StreamDesk(means, node.streams, watching, node.id, lambda: GROUPS, node._report)
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.run)
        yield Desk(desk, node)
        await desk.close()
        nursery.cancel_scope.cancel()


async def test_a_stream_is_fed_listed_read_and_removed(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        begun = await desk.ask("publish", name="uav1", to=["convoy", "bravo"], label="RESTRICTED")
        assert begun["receivers"] == ["dtn://convoy/~stream", "dtn://bravo/stream"]
        for pos in range(0, len(CLIP), 50_000):
            await desk.ask("feed", feed=begun["feed"], data=CLIP[pos : pos + 50_000])
        (row,) = (await desk.ask("list"))["streams"]
        assert (row["state"], row["label"], row["ingested_bytes"]) == ("live", "RESTRICTED", len(CLIP))
        assert "stop it first" in await desk.refusal("remove", name="uav1")
        await desk.ask("feed", feed=begun["feed"], data=b"", is_last=True)
        await desk.node.library.close()
        recorded = b""
        for span in range(desk.node.streams.published[bytes.fromhex(begun["stream"])].about.announcement.spans):
            reply = await desk.ask("read", name="uav1", span=span)
            assert reply["offset"] == len(recorded)
            recorded += reply["data"]
        assert recorded == CLIP
        assert (await desk.refusal("read", name="uav1", span=1000)).startswith("not_found")
        assert (await desk.ask("list", name="uav1"))["streams"][0]["state"] == "ended"
        await desk.ask("remove", name=begun["stream"])
        assert (await desk.ask("list"))["streams"] == []


async def test_a_client_that_goes_ends_its_stream(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        gone = Session(2)
        begun = await desk.ask("publish", gone, name="uav1", to=["bravo"])
        await desk.ask("feed", gone, feed=begun["feed"], data=CLIP)
        assert (await desk.refusal("feed", feed=begun["feed"], data=b"x")).startswith("not_found")
        desk.desk.session_closed(gone)
        assert "stream.ended" in desk.node.kinds()
        await desk.ask("publish", name="uav1", to=["bravo"])


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"name": " uav"}, "printable"),
        ({"to": []}, "1 to 16"),
        ({"to": ["alpha"]}, "this node"),
        ({"to": ["no node"]}, "'no node'"),
        ({"to": ["dtn://convoy/~orders"]}, "~stream"),
        ({"to": ["dtn://bravo/inbox"]}, "neither a node nor a group"),
        ({"label": "a\nb"}, "label"),
        ({"input": "udp://camera:5004"}, "no address of a stream"),
        ({"input": "udp://192.0.2.77:5004"}, "not one of this host's"),
        ({"input": "udp://239.1.1.1:5004@nosuchdev"}, "no such network device"),
    ],
)
async def test_what_can_not_be_published_is_refused(tmp_path: Path, params: dict[str, Any], why: str) -> None:
    async with opened(tmp_path) as desk:
        refusal = await desk.refusal("publish", **{"name": "uav1", "to": ["bravo"]} | params)
        assert refusal.startswith("bad_params")
        assert why in refusal
        assert (await desk.ask("list"))["streams"] == []


async def test_a_name_is_published_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        begun = await desk.ask("publish", name="uav1", to=["bravo"], input="udp://127.0.0.1:0")
        assert begun["port"]
        assert "stop it first" in await desk.refusal("publish", name="uav1", to=["bravo"])
        assert (await desk.ask("stop", name="uav1"))["stopped"] == 1
        assert (await desk.refusal("stop", name="uav1")).startswith("not_found")
        await desk.ask("publish", name="uav1", to=["bravo"], input=f"udp://127.0.0.1:{begun['port']}")


async def test_outputs_are_kept_and_stopped(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        reply = await desk.ask("watch", name="later", output="udp://127.0.0.1:9", latency_ms=200)
        assert reply == {"output": "udp://127.0.0.1:9", "is_known": False}
        assert "already" in await desk.refusal("watch", name="later", output="udp://127.0.0.1:9")
        for bad in ("rtp://127.0.0.1:9", "udp://127.0.0.1:0", "udp://nowhere:9", "udp://1.2.3.4@239.1.1.1:9"):
            assert (await desk.refusal("watch", name="later", output=bad)).startswith("bad_params")
    async with opened(tmp_path) as desk:
        assert list(desk.desk._watching.watches["later"].outputs) == ["udp://127.0.0.1:9"]
        assert (await desk.ask("stop", name="later", output="udp://127.0.0.1:9"))["stopped"] == 1
    async with opened(tmp_path) as desk:
        assert desk.desk._watching.watches == {}


async def test_a_client_sees_what_is_played_to_its_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        reader = (await desk.ask("open", name="uav1", latency_ms=0))["reader"]
        assert (await desk.ask("next", reader=reader, timeout_s=0.0))["data"] == b""
        begun = await desk.ask("publish", name="uav1", to=["bravo"])
        await desk.ask("feed", feed=begun["feed"], data=CLIP, is_last=True)
        seen, has_ended = b"", False
        with trio.fail_after(20):
            while not has_ended:
                answer = await desk.ask("next", reader=reader, timeout_s=10.0)
                seen, has_ended = seen + answer["data"], answer["has_ended"]
        assert seen == CLIP
        desk.desk.session_closed(desk.session)
        assert (await desk.refusal("next", reader=reader)).startswith("not_found")


async def test_an_output_goes_over_to_the_next_stream_of_its_name(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.ask("watch", name="uav1", output="udp://127.0.0.1:9")
        for number in range(2):
            begun = await desk.ask("publish", name="uav1", to=["bravo"], label=str(number))
            watch = desk.desk._watching.watches["uav1"]
            assert watch.stream == bytes.fromhex(begun["stream"])
            desk.desk.session_closed(desk.session)
            await trio.sleep(0.002)  # another begin, another ID


def test_the_nearest_that_may_have_it_comes_first() -> None:
    far = {"dtn://dpop1/": 9.0, "dtn://home/": 2.0, "dtn://bravo/": 1.0}
    find = holders_of(Eid("dtn://alpha/"), lambda: GROUPS, lambda node: far.get(node.uri, float("inf")))
    announcement: Announcement = changed_in(receivers=["dtn://home/stream", "dtn://convoy/~stream", "dtn://x/stream"])
    assert [node.uri for node in find(announcement)] == ["dtn://bravo/", "dtn://home/", "dtn://dpop1/"]
