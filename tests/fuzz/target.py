# SPDX-License-Identifier: Apache-2.0
"""What a fuzz target is: a module of tests/fuzz/targets with these three functions, and where its inputs lie."""

import importlib
from pathlib import Path
from typing import Final, Protocol, cast

HERE: Final = Path(__file__).resolve().parent
CORPUS: Final = HERE / "corpus"
REGRESSIONS: Final = HERE / "regressions"


class Target(Protocol):
    """One way into meshd for bytes that nobody vouches for."""

    def check(self, data: bytes) -> None:
        """Take one input; returns whatever it is worth. Anything raised is a finding."""

    def seeds(self) -> dict[str, bytes]:
        """Inputs to begin with, by file name."""

    def dictionary(self) -> list[bytes]:
        """Words that a mutation may put in; may be empty."""


def names() -> list[str]:
    """All targets."""
    return sorted(path.stem for path in (HERE / "targets").glob("*.py"))


def load(name: str) -> Target:
    """The target of this name, without the fuzzer's instruments."""
    return cast(Target, importlib.import_module(f"tests.fuzz.targets.{name}"))


def inputs(name: str) -> list[Path]:
    """The files of a target: its corpus, and what once broke it."""
    return sorted(path for root in (CORPUS, REGRESSIONS) for path in (root / name).glob("*") if path.is_file())
