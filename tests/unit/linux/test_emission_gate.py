# SPDX-License-Identifier: Apache-2.0
"""What the gate says where it can't be had; what it does where it can is for the lab."""

import os

import pytest

from meshd.base.errors import GateError
from meshd.linux.emission_gate import KernelGate


def in_child_without_privileges() -> str:
    """Runs in a forked child: drops root, asks, and reports through its exit."""
    gate = KernelGate()
    lacking = [*gate.probe(), *gate.probe_weak()]
    try:
        gate.close(["lo"])
    except GateError as exc:
        return f"{len(lacking)} {lacking[0]} | {exc}"
    return "closed"


@pytest.mark.root
def test_without_the_capability_the_remedy_is_named() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writer, in_child_without_privileges().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    assert said.startswith("2 nftables egress")
    assert said.count("CAP_NET_ADMIN") >= 2
    assert "gate = false" in said
