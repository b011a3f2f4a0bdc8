# SPDX-License-Identifier: Apache-2.0
"""The gate of a host that has none says so for every device."""

from meshd.emcon.gate import NO_GATE_PROBLEM, NoGate


def test_every_device_has_the_problem() -> None:
    gate = NoGate()
    gate.adopt(["sat"])
    gate.close(["los"])
    gate.open("lan", None)
    assert gate.problems() == dict.fromkeys(["sat", "los", "lan"], NO_GATE_PROBLEM)
    assert gate.counters() == {}
    assert gate.reapply() == []
    assert gate.probe() == [NO_GATE_PROBLEM]
    assert gate.ports == ()
