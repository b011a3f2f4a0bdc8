# SPDX-License-Identifier: Apache-2.0
"""Start a lab with a program in a node, say so, and wait: for tests that end the lab from outside."""

import signal
import sys

from netns_lab.scenario import ScenarioContext


def run(context: ScenarioContext) -> int:
    """Never returns by itself."""
    with context.lab("triangle") as lab:
        lab.node("home").popen(["sleep", "1000"])
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            signal.pause()
