# SPDX-License-Identifier: Apache-2.0
"""Who belongs to the mission: whoever the configuration names, and whose keys of either kind are known."""

from typing import Any, cast

from meshd.bundle.eid import parse_eid
from meshd.daemon.mission import mission_nodes
from meshd.security.link_files import LinkFiles
from meshd.security.signing_peers import SigningFiles, make_signing_key
from meshd.settings.load import parse

TEXT = """
[node]
id = "dtn://dpop1/"
[[bearer]]
name = "lan0"
kind = "terrestrial"
rate = "1 Mbit/s"
[[neighbour]]
node = "dtn://dpop2/"
bearer = "lan0"
"""
OWN, NAMED, SIGNING, FOUND = (parse_eid(f"dtn://{name}/") for name in ("dpop1", "dpop2", "dpop3", "dpop4"))


def test_a_member_that_is_found_by_radio_belongs_to_it_without_a_signing_key() -> None:
    configuration = parse(TEXT, "meshd.toml")
    signing = SigningFiles(make_signing_key(), {OWN: b"", SIGNING: b""})
    links = LinkFiles(cast(Any, None), cast(Any, None), {OWN: bytes(32), FOUND: bytes(32)})
    assert mission_nodes(configuration, None, None) == {NAMED}
    assert mission_nodes(configuration, signing, None) == {NAMED, SIGNING}
    assert mission_nodes(configuration, signing, links) == {NAMED, SIGNING, FOUND}
