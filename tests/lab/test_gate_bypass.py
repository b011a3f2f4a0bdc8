# SPDX-License-Identifier: Apache-2.0
"""No way round the gate: each is tried with the gate open, where the sniffer has to hear all of it, and closed."""

from pathlib import Path

import pytest

from tests.lab.bypass import WAYS, LackingError, count_escapes

pytestmark = [pytest.mark.root, pytest.mark.lab]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_leaves(way: str, tmp_path: Path) -> None:
    try:
        found = count_escapes(way, tmp_path)
    except LackingError as error:
        pytest.skip(f"this kernel has no such device: {error}")
    assert found.gate_open == found.tried
    assert found.gate_closed == 0
