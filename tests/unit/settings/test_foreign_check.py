# SPDX-License-Identifier: Apache-2.0
"""Settings of foreign nodes and applications: MTCP neighbours and the AAP 2.0 socket."""

from pathlib import PurePosixPath

import pytest

from meshd.base.errors import SettingsError
from meshd.control.settings import Aap2Settings
from meshd.link.settings import ConvergenceLayer
from meshd.settings.compare import compare, merge
from meshd.settings.configuration import Configuration
from meshd.settings.load import parse

TEXT = """\
[node]
id = "dtn://a/"
[control]
group = "staff"
[[bearer]]
name = "lan0"
kind = "terrestrial"
listen = "10.0.0.1:4556"
rate = "50 Mbit/s"
[[neighbour]]
node = "dtn://b/"
bearer = "lan0"
address = "10.0.0.2:4224"
cl = "mtcp"
"""
SECOND = '[[neighbour]]\nnode = "dtn://c/"\nbearer = "lan0"\ncl = "mtcp"\n'


def configuration(text: str) -> Configuration:
    return parse(text, "meshd.toml")


def test_an_mtcp_neighbour_is_named_and_off_by_default() -> None:
    read = configuration(TEXT.replace("rate", 'mtcp_listen = "10.0.0.1:4224"\nrate'))
    assert [each.cl for each in read.neighbours] == [ConvergenceLayer.MTCP]
    assert read.bearers[0].mtcp_listen == "10.0.0.1:4224"
    plain = configuration(TEXT.replace('cl = "mtcp"\n', ""))
    assert [each.cl for each in plain.neighbours] == [ConvergenceLayer.TCPCLV4]
    assert (plain.bearers[0].mtcp_listen, plain.aap2) == (None, None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TEXT.replace('address = "10.0.0.2:4224"\n', ""), "neighbour[1].address: an MTCP neighbour is known by"),
        (TEXT.replace('"mtcp"', '"mctp"'), "neighbour[1].cl: 'mctp' is not known here"),
        (TEXT + SECOND + 'address = "10.0.0.2:9"\n', "neighbour[2].address: neighbour[1] has the same IP address"),
        (TEXT.replace("rate", 'mtcp_listen = "10.0.0.1:4556"\nrate'), "bearer[1].mtcp_listen: TCPCLv4 listens there"),
        (TEXT + '[aap2]\nsocket = "/run/meshd/control.sock"\n', "aap2.socket: the control socket is there"),
        (TEXT + '[aap2]\ngroup = "apps"\n', "aap2.group: there is no socket"),
        (TEXT + '[aap2]\nsocket = "relative"\n', "aap2.socket: 'relative' is not an absolute path"),
    ],
)
def test_what_does_not_fit_is_named(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        configuration(text)
    assert problem in str(caught.value)


def test_mtcp_is_refused_where_authentication_is_required() -> None:
    strict = TEXT.replace("rate", 'mtcp_listen = "10.0.0.1:4224"\ntls = "require"\nrate')
    with pytest.raises(SettingsError) as caught:
        configuration(strict)
    reason = "MTCP can't authenticate anybody, and this bearer requires it"
    assert f"bearer[1].mtcp_listen: {reason}" in str(caught.value)
    assert f"neighbour[1].cl: {reason}" in str(caught.value)


def test_two_neighbours_of_other_bearers_may_share_an_address() -> None:
    other = '[[bearer]]\nname = "lan1"\nkind = "terrestrial"\nrate = "1 Mbit/s"\n'
    text = TEXT + other + SECOND.replace("lan0", "lan1") + 'address = "10.0.0.2:4224"\n'
    assert len(configuration(text).neighbours) == 2


def test_the_aap2_socket_belongs_to_the_control_sockets_group_or_its_own() -> None:
    named = TEXT + '[aap2]\nsocket = "/run/meshd/aap2.sock"\n'
    path = PurePosixPath("/run/meshd/aap2.sock")
    assert configuration(named).aap2 == Aap2Settings(path, "staff")
    assert configuration(named + 'group = "apps"\n').aap2 == Aap2Settings(path, "apps")


def test_the_groups_of_roles_and_where_they_reach() -> None:
    keys = ["viewer_group", "operator_group", "security_group", "admin_group", "break_group"]
    roles = "".join(f'{key} = "{key[:-6]}s"\n' for key in keys)
    text = TEXT.replace('group = "staff"\n', f'group = "staff"\n{roles}')
    found = configuration(text + '[aap2]\nsocket = "/run/meshd/aap2.sock"\n')
    assert [getattr(found.control, key) for key in keys] == ["viewers", "operators", "securitys", "admins", "breaks"]
    assert found.aap2 == Aap2Settings(PurePosixPath("/run/meshd/aap2.sock"), "operators", "admins")
    assert set(compare(configuration(TEXT), configuration(text))[1]) == {f"control.{key}" for key in keys}


def test_what_a_reload_does() -> None:
    old = configuration(TEXT)
    new = configuration(TEXT.replace('cl = "mtcp"\n', "") + '[aap2]\nsocket = "/run/aap2.sock"\n')
    assert compare(old, new) == (["neighbour dtn://b/ on lan0"], ["aap2.socket", "aap2.group"])
    merged = merge(old, new)
    assert merged.aap2 is None
    assert merged.neighbours[0].cl is ConvergenceLayer.TCPCLV4
