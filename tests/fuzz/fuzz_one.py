# SPDX-License-Identifier: Apache-2.0
"""One target under atheris, in a process of its own: `python -m tests.fuzz.fuzz_one TARGET [libFuzzer options]`.

Started by run.py. Ends with a traceback, and the input in a file, when the target's `check` raises anything.
"""

import importlib
import sys

import atheris


def main() -> None:
    """Set up and fuzz until libFuzzer has had enough."""
    name = sys.argv[1]
    with atheris.instrument_imports(include=["meshd"]):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
