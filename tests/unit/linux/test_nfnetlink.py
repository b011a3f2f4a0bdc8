# SPDX-License-Identifier: Apache-2.0
"""Names of chains; what the kernel makes of the table is for the lab."""

import re

import pytest

from meshd.linux.nfnetlink import chain_name


@pytest.mark.parametrize(
    ("device", "name"),
    [("rad0", "egress-rad0"), ("eth0.100", "egress-eth0.100"), ("a:b@c", "egress-a_3ab_40c"), ("a_b", "egress-a_5fb")],
)
def test_chain_names(device: str, name: str) -> None:
    assert chain_name(device) == name
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9/\\_.-]*", name)
