# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the markers that say what a test needs, and chance that repeats itself.

A test that needs root or a program says so with a marker. Without it, the test is skipped for an ordinary user on their
own machine; under CI, and for root, a missing thing is a failure: nobody may believe that something ran which did not.
"""

import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# Examples are the same in every run, and none is slow because another test shares the core.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
# For hunting: new examples in every run (`pytest --hypothesis-profile=hunt`).
hypothesis.settings.register_profile("hunt", deadline=None, max_examples=2000, print_blob=True)
hypothesis.settings.load_profile("repeatable")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose needs are not met."""
    is_root = os.geteuid() == 0
    missing = [] if is_root or item.get_closest_marker("root") is None else ["root"]
    search_path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    for marker in item.iter_markers("programs"):
        missing += [program for program in marker.args if shutil.which(program, path=search_path) is None]
    if not missing:
        return
    reason = f"needs {', '.join(missing)}"
    if is_root or os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and under CI or as root nothing is skipped: run tools/setup.sh test", pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def repository() -> Path:
    """The checkout's root."""
    return REPOSITORY


@pytest.fixture
def set_limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Gives a constant of meshd, by its full name, another value for one test.

    Machine code has its constants built in: such a test is for the sources alone, and skipped otherwise.
    """

    def set_constant(name: str, value: int) -> None:
        module = importlib.import_module(name.rpartition(".")[0])
        if not str(module.__file__).endswith(".py"):
            pytest.skip(f"{name} is built into the compiled module")
        monkeypatch.setattr(name, value)

    return set_constant
