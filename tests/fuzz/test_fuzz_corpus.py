# SPDX-License-Identifier: Apache-2.0
"""Every committed input of every fuzz target, replayed without a fuzzer: what was found once stays mended."""

from pathlib import Path

import pytest

from tests.fuzz.target import CORPUS, inputs, load, names

CASES = [(name, path) for name in names() for path in inputs(name)]


@pytest.mark.parametrize(("name", "path"), CASES, ids=[f"{name}-{path.name}" for name, path in CASES])
def test_a_committed_input_holds_the_invariants(name: str, path: Path) -> None:
    load(name).check(path.read_bytes())


@pytest.mark.parametrize("name", names())
def test_the_corpus_holds_the_seeds(name: str) -> None:
    """The remedy for a missing one: python -m tests.fuzz.make_corpus."""
    for seed, data in load(name).seeds().items():
        assert (CORPUS / name / seed).read_bytes() == data


@pytest.mark.parametrize("name", names())
def test_a_target_takes_nothing(name: str) -> None:
    """The empty input is the first that a fuzzer tries."""
    load(name).check(b"")
