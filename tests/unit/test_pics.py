# SPDX-License-Identifier: Apache-2.0
"""The conformance statement names tests that exist, and claims nothing without one."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
STATEMENT = TESTS.parent / "docs" / "PICS.md"
_TEST = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")
_ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in STATEMENT.read_text().splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| Feature", "| Limit"))
]
NAMED = sorted(set(_TEST.findall(STATEMENT.read_text())))


def test_the_statement_has_rows() -> None:
    assert len(_ROWS) > 60
    assert len(NAMED) > 60


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_every_named_test_exists(file: str) -> None:
    tree = ast.parse((TESTS / file).read_text())
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert {name for named_file, name in NAMED if named_file == file} <= there


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: row[0][:50])
def test_what_is_supported_is_shown(row: list[str]) -> None:
    """The last cell holds tests, unless the one before it says no."""
    assert _TEST.search(row[-1]) or row[-2].startswith("no")


def test_nothing_is_left_open() -> None:
    assert not re.search(r"TODO|FIXME|\?\?|@[A-Z]+@", STATEMENT.read_text())
