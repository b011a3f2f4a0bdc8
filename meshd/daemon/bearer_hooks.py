# SPDX-License-Identifier: Apache-2.0
"""Hooks of bearers: a site's commands that are told each posture, such as one that drives a radio's transmit inhibit.

A hook runs after the gate is as the posture wants it, one at a time for each bearer; where postures change faster than
it runs, those in between are left out. One that fails or takes too long is an alarm, and where that is configured the
device is set down until the hook has worked again.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from meshd.link.settings import BearerSettings, Hook, HookFailure, Posture

OUTPUT_SHOWN_MAX = 200
"""So much of what a hook says goes into an alarm."""


class BearerHooks:
    """Of one daemon.

    Args: `set_down` is told of a bearer whose device has to be down, and when it need not any more.
    """

    def __init__(
        self,
        bearers: Sequence[BearerSettings],
        set_down: Callable[[str, bool], None],
        report: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._hooks = {bearer.name: bearer.hook for bearer in bearers if bearer.hook is not None}
        self._set_down = set_down
        self._report = report
        self._wanted: dict[str, Posture] = {}
        self._changed = {name: trio.Event() for name in self._hooks}

    def postures_changed(self, postures: Mapping[str, Posture]) -> None:
        """Tell the hooks, as soon as they run."""
        for name in self._hooks:
            if self._wanted.get(name) is not postures[name]:
                self._wanted[name] = postures[name]
                self._changed[name].set()

    async def run(self) -> None:
        """Until cancelled; a hook that runs then is killed."""
        async with trio.open_nursery() as nursery:
            for name, hook in self._hooks.items():
                nursery.start_soon(self._serve, name, hook)

    async def _serve(self, name: str, hook: Hook) -> None:
        while True:
            await self._changed[name].wait()
            self._changed[name] = trio.Event()
            posture = self._wanted[name]
            problem = await _tell(hook, posture)
            if problem is not None:
                text = f"the hook of {name} was not told {posture.value}: {problem}"
                self._report("emcon.alarm", {"text": text, "bearer": name})
            if hook.failure is HookFailure.DOWN:
                self._set_down(name, problem is not None)


async def _tell(hook: Hook, posture: Posture) -> str | None:
    """Run it; why it failed, or None."""
    words = [*hook.command, posture.value]
    with trio.move_on_after(hook.timeout_s) as scope:
        try:
            done = await trio.run_process(words, stdin=b"", capture_stdout=True, stderr=subprocess.STDOUT, check=False)
        except OSError as error:
            return f"{words[0]} can't be run: {error.strerror or error}"
    if scope.cancelled_caught:
        return f"it took longer than {hook.timeout_s} s"
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()[:OUTPUT_SHOWN_MAX]
        return f"it ended with {done.returncode}" + (f": {said}" if said else "")
    return None
