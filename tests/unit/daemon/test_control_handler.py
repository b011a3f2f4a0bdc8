# SPDX-License-Identifier: Apache-2.0
"""A result that is not there yet."""

from typing import Any

import pytest
import trio
import trio.testing

from meshd.control.errors import ControlError
from meshd.daemon.control_handler import Pending


async def test_told_at_once_and_awaited_later() -> None:
    pending, got = Pending(None, "too late"), list[Any]()
    pending.on_settled = got.append

    async def wait() -> None:
        got.append(await pending)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert (got, pending.is_over) == ([], False)
        pending.settle({"a": 1})
        assert (got, pending.is_over) == ([{"a": 1}], True)
    assert got == [{"a": 1}, {"a": 1}]


async def test_too_late(autojump_clock: trio.testing.MockClock) -> None:
    pending = Pending(5.0, "no message came")
    with pytest.raises(ControlError, match="no message came"):
        await pending
    assert (trio.current_time(), pending.is_over) == (5.0, True)


async def test_failed() -> None:
    pending = Pending(None, "too late")
    pending.fail(ControlError("not_found", "the receiver is gone"))
    with pytest.raises(ControlError, match="the receiver is gone"):
        await pending
