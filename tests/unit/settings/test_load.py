# SPDX-License-Identifier: Apache-2.0
"""A good configuration becomes settings; a bad one becomes one error with file, line, key, reason and remedy each."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.eid import parse_eid
from meshd.link.settings import BearerKind, Posture
from meshd.settings.load import FILE_SIZE_MAX_BYTES, load, parse
from meshd.settings.problem import PROBLEMS_MAX, ConfigurationError, Problem

GOOD = """\
[node]
id = "dtn://dpop1/"
state_dir = "/var/lib/meshd"
clock_trusted = true
lifetime = "24 h"
lifetime_max = "30 d"

[store]
quota = "8 GiB"
bundles_max = 1_000_000
known_max = 4_000_000

[control]
socket = "/run/meshd/control.sock"
group = "meshd"

[[bearer]]
name = "satcom0"
kind = "satcom"
device = "eth1"
radiating = true
listen = "[::]:4556"
rate = "2 Mbit/s"
mark = 0x6d02
keepalive = "30 s"

[[bearer]]
name = "lan0"
kind = "terrestrial"
rate = "50 Mbit/s"

[[neighbour]]
node = "dtn://home/"
bearer = "satcom0"
address = "10.11.0.1:4556"

[[neighbour]]
node = "dtn://home/"
bearer = "lan0"

[[route]]
destination = "dtn://dpop2/"
via = "dtn://home/"
bearers = ["lan0", "satcom0"]

[[route]]
destination = "*"
via = "dtn://home/"

[emcon]
boot_posture = "OPEN"
lease = "7 s"
gate = false

[emcon.profile.quiet-radio]
satcom0 = "RX_ONLY"
others = "OPEN"
"""


def problems_of(text: str) -> list[str]:
    """The lines of the error that a text gives."""
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "meshd.toml")
    assert len(caught.value.problems) == len(str(caught.value).splitlines())
    return str(caught.value).splitlines()


def only_problem_of(old: str, new: str, *, text: str = GOOD) -> str:
    """The one problem that a good text has after a replacement."""
    assert text.count(old) >= 1
    problems = problems_of(text.replace(old, new, 1))
    assert len(problems) == 1, problems
    return problems[0]


def test_every_key_reaches_its_setting() -> None:
    configuration = parse(GOOD, "meshd.toml")

    node = configuration.node
    assert node.id == parse_eid("dtn://dpop1/")
    assert node.state_dir == PurePosixPath("/var/lib/meshd")
    assert (node.lifetime_ms, node.lifetime_max_ms) == (86_400_000, 30 * 86_400_000)
    assert (node.quota_bytes, node.bundles_max, node.known_max) == (8 * 2**30, 1_000_000, 4_000_000)
    assert node.clock_trusted is True
    assert (str(configuration.control.socket), configuration.control.group) == ("/run/meshd/control.sock", "meshd")

    satcom, lan = configuration.bearers
    assert (satcom.name, satcom.kind, satcom.device) == ("satcom0", BearerKind.SATCOM, "eth1")
    assert (satcom.listen, satcom.rate_bps, satcom.mark, satcom.keepalive_s) == ("[::]:4556", 2_000_000, 0x6D02, 30)
    assert (lan.device, lan.radiating, lan.listen, lan.mark, lan.keepalive_s) == ("lan0", False, None, 0x6D01, 1)

    assert [(each.bearer, each.address) for each in configuration.neighbours] == [
        ("satcom0", "10.11.0.1:4556"),
        ("lan0", None),
    ]
    assert configuration.routes[0].bearers == ("lan0", "satcom0")
    assert (configuration.routes[1].destination, configuration.routes[1].bearers) == (None, ())

    emcon = configuration.emcon
    assert (emcon.boot_posture, emcon.lease_s, emcon.gate) == (Posture.OPEN, 7.0, False)
    assert emcon.profiles["quiet-radio"].postures == {"satcom0": Posture.RX_ONLY}
    assert emcon.profiles["unrestricted"].others is Posture.OPEN
    assert emcon.profiles["silent"].others is Posture.RX_ONLY


def test_a_node_id_alone_is_a_configuration() -> None:
    configuration = parse('node.id = "ipn:7.0"', "meshd.toml")
    assert configuration.node.id == parse_eid("ipn:7.0")
    assert configuration.bearers == ()
    assert configuration.emcon.boot_posture is Posture.RX_ONLY
    assert configuration.emcon.gate is True
    assert configuration.control.group is None


@pytest.mark.parametrize(("kind", "radiating"), [("satcom", True), ("los", True), ("terrestrial", False)])
def test_radios_radiate_by_default(kind: str, radiating: bool) -> None:
    text = f'node.id = "ipn:7.0"\n[[bearer]]\nname = "b0"\nkind = "{kind}"\nrate = "1 Mbit/s"\n'
    assert parse(text, "meshd.toml").bearers[0].radiating is radiating
    assert parse(text + "radiating = true\n", "meshd.toml").bearers[0].radiating is True


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # unknown names
        ("lifetime_max", "lifetim_max", "6: node.lifetim_max: there is no such key; did you mean 'lifetime_max'?"),
        ("[store]", "[sture]", "8: sture: there is no such table; did you mean 'store'?"),
        ("listen", "liston", "22: bearer[1].liston: there is no such key; did you mean 'listen'?"),
        ("boot_posture", "boot", "there is no such key; known here: boot_posture, lease, gate, aliases, profile"),
        # wrong types
        ("clock_trusted = true", 'clock_trusted = "yes"', "4: node.clock_trusted: 'yes' is neither true nor false"),
        ('id = "dtn://dpop1/"', "id = 1", "2: node.id: 1 is not a text; write it in quotation marks"),
        ("bundles_max = 1_000_000", 'bundles_max = "9"', "10: store.bundles_max: '9' is not a whole number"),
        ("bundles_max = 1_000_000", "bundles_max = true", "True is not a whole number"),
        ('lifetime = "24 h"', "lifetime = 24", "5: node.lifetime: 24 is not a text"),
        ('bearers = ["lan0", "satcom0"]', 'bearers = "lan0"', "44: route[1].bearers: 'lan0' is not a list"),
        # impossible values
        ('lifetime = "24 h"', 'lifetime = "24"', "'24' has no unit; write a duration such as '24 h'"),
        ('lifetime = "24 h"', 'lifetime = "2 years"', "'years' is not a unit of a duration; known units are ms, s"),
        ('lifetime = "24 h"', 'lifetime = "1 ms"', "'1 ms' is out of range; write one from '1 s' to '366 d'"),
        ('lifetime = "24 h"', 'lifetime = "31 d"', "longer than lifetime_max allows; shorten it or raise lifetime_max"),
        ('quota = "8 GiB"', 'quota = "1 MiB"', "'1 MiB' is out of range; write one from '16 MiB'"),
        ("known_max = 4_000_000", "known_max = 5", "11: store.known_max: it is smaller than bundles_max"),
        ('id = "dtn://dpop1/"', 'id = "dtn://dpop1/x"', "dtn://dpop1/x is no node ID"),
        ('"/var/lib/meshd"', '"var/lib"', "'var/lib' is not an absolute path; begin it with '/'"),
        ('"/run/meshd/control.sock"', f'"/{"a" * 120}"', "a path of 121 bytes is too long for a socket; use one of"),
        ('kind = "satcom"', 'kind = "laser"', "'laser' is not known here; write one of 'terrestrial', 'satcom', 'los'"),
        ('"[::]:4556"', '"4556"', "'4556' is not an address with a port; write an IP address and a port"),
        ('"[::]:4556"', '"localhost:4556"', "holds no IP address (host names are not looked up)"),
        ('"10.11.0.1:4556"', '"10.11.0.1:0"', "35: neighbour[1].address: port 0 is out of range"),
        ('"10.11.0.1:4556"', '"[10.11.0.1]:4556"', "holds no IP address"),
        ('"eth1"', '"a/b"', "'a/b' can't be a network device"),
        ('keepalive = "30 s"', 'keepalive = "1.5 s"', "'1.5 s' is not a whole number of seconds"),
        ("mark = 0x6d02", "mark = -1", "-1 is out of range; write a number from 0 to 4294967295"),
        ('boot_posture = "OPEN"', 'boot_posture = "open"', "'open' is not known here; write one of 'OPEN', 'RX_ONLY'"),
        # missing
        ('id = "dtn://dpop1/"', "", "1: node.id: it is missing and has no default; add id = ... to this table"),
        ('rate = "50 Mbit/s"', "", "27: bearer[2].rate: it is missing"),
        # the wrong kind of table
        ("[node]", "[[node]]", "it can be there only once; write [node] instead of [[node]]"),
        # what has to fit together
        (
            'bearer = "satcom0"',
            'bearer = "satcom"',
            "34: neighbour[1].bearer: there is no bearer 'satcom'; did you mean",
        ),
        (
            'via = "dtn://home/"',
            'via = "dtn://hom/"',
            "43: route[1].via: there is no neighbour 'dtn://hom/'; did you mean",
        ),
        (
            '["lan0", "satcom0"]',
            '["lan0", "los0"]',
            "44: route[1].bearers[2]: there is no bearer of dtn://home/ 'los0'",
        ),
        ('["lan0", "satcom0"]', '["lan0", "lan0"]', "names something twice"),
        (
            'satcom0 = "RX_ONLY"',
            'satcom = "RX_ONLY"',
            "56: emcon.profile.quiet-radio.satcom: there is no bearer 'satcom'",
        ),
        ("[emcon.profile.quiet-radio]", "[emcon.profile.silent]", "55: emcon.profile.silent: this profile is built in"),
        ('destination = "dtn://dpop2/"', 'destination = "dtn://dpop1/"', "that is this node itself; remove the route"),
        ('destination = "dtn://dpop2/"', 'destination = "*"', "route[2].via: route[1] says the same already"),
        ('name = "lan0"', 'name = "satcom0"', "bearer[2].name: bearer[1] says the same already"),
    ],
)
def test_one_mistake_is_one_line(old: str, new: str, expected: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    assert expected in "\n".join(problems_of(text))


def test_a_problem_reads_file_line_key_reason_and_remedy() -> None:
    problem = only_problem_of("lifetime_max", "lifetim_max")
    assert problem == "meshd.toml:6: node.lifetim_max: there is no such key; did you mean 'lifetime_max'?"


def test_all_problems_come_at_once_in_the_order_of_their_lines() -> None:
    text = GOOD.replace("24 h", "24 hh").replace("[::]:4556", "::").replace('"los0"', "").replace("7 s", "70 s")
    assert [line.split(": ")[1] for line in problems_of(text)] == ["node.lifetime", "bearer[1].listen", "emcon.lease"]


def test_so_many_problems_are_shown_and_no_more() -> None:
    text = 'node.id = "ipn:1.0"\n' + "".join(f"unknown{number} = 1\n" for number in range(PROBLEMS_MAX + 5))
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "meshd.toml")
    lines = str(caught.value).splitlines()
    assert len(lines) == PROBLEMS_MAX + 1
    assert lines[-1] == "meshd.toml: and 5 more problems"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("neighbour", GOOD + '[[neighbour]]\nnode = "dtn://home/"\nbearer = "lan0"\naddress = "10.0.0.1:1"\n'),
        ("neighbour", GOOD + '[[neighbour]]\nnode = "dtn://b/"\nbearer = "satcom0"\naddress = "10.11.0.1:4556"\n'),
        ("neighbour", GOOD + '[[neighbour]]\nnode = "dtn://dpop1/"\nbearer = "lan0"\n'),
        (
            "bearer",
            GOOD + '[[bearer]]\nname = "x"\nkind = "los"\nrate = "1 bit/s"\ndevice = "eth1"\nlisten = "[::]:4556"\n',
        ),
        ("bearer", GOOD + '[[bearer]]\nname = "others"\nkind = "los"\nrate = "1 bit/s"\n'),
        ("bearer", GOOD + '[[bearer]]\nname = "sixteen-letters-"\nkind = "los"\nrate = "1 bit/s"\n'),
    ],
)
def test_what_may_be_there_only_once(name: str, text: str) -> None:
    problems = problems_of(text)
    assert len(problems) == 1
    assert f": {name}[3]." in problems[0]


def test_a_port_that_the_kernel_chooses_is_never_taken_twice() -> None:
    bearer = '[[bearer]]\nname = "{}"\nkind = "los"\nrate = "1 bit/s"\ndevice = "lo"\nlisten = "127.0.0.1:0"\n'
    configuration = parse('node.id = "ipn:1.0"\n' + bearer.format("a") + bearer.format("b"), "meshd.toml")
    assert [each.listen for each in configuration.bearers] == ["127.0.0.1:0"] * 2


@pytest.mark.parametrize(
    "text", ["bearer = 1", "[bearer]\nx = 1", "node = 3", "emcon = []", "emcon.profile = 3", "[[emcon.profile]]",
             "emcon.profile.x = 3", "neighbour = [1]", "route = [[]]", "store = {quota = []}"]
)  # fmt: skip
def test_tables_of_the_wrong_shape_are_problems_too(text: str) -> None:
    assert problems_of('node.id = "ipn:1.0"\n' + text if "node" not in text else text)


def test_too_many_tables_are_refused() -> None:
    text = GOOD + "".join(f'[emcon.profile.p{number}]\nothers = "OPEN"\n' for number in range(64))
    assert "65 tables are too many; use at most 64" in problems_of(text)[0]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[node]\nid = dtn://dpop1/\n", 2, "not valid TOML"),
        ("[node]\nid = 1\nid = 2\n", 3, "not valid TOML"),
        ('[node]\nid = "', 2, "not valid TOML"),
        ("x = " + "[" * 5000, 1, "nested too deeply"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    problems = problems_of(text)
    assert len(problems) == 1
    assert problems[0].startswith(f"meshd.toml:{line}: it")
    assert reason in problems[0]


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "meshd.toml"
    path.write_text(GOOD)
    assert load(path) == parse(GOOD, "whatever")


def test_a_file_that_can_not_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"absent\.toml:1: it can't be read \(No such file or directory\); check"
    ):
        load(tmp_path / "absent.toml")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load(tmp_path)


def test_a_file_that_is_no_text_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "meshd.toml"
    path.write_bytes(b"# one\n# two \xff\n")
    with pytest.raises(ConfigurationError, match=r"meshd\.toml:2: it is not UTF-8 text; save it as UTF-8"):
        load(path)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "meshd.toml"
    path.write_bytes(b"#" * (FILE_SIZE_MAX_BYTES + 1))
    with pytest.raises(ConfigurationError, match="it has more than 1048576 bytes"):
        load(path)


LINES = GOOD.splitlines()
JUNK = [
    "",
    "]",
    "x = 1",
    "[[bearer]]",
    "[emcon.profile.a]",
    "name = []",
    "rate = {}",
    'a."b c" = 1',
    "node = 1",
    '"" = 2',
]


@given(st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.sampled_from(JUNK)), max_size=4))
def test_any_spoilt_text_gives_settings_or_the_named_error(changes: list[tuple[int, str]]) -> None:
    lines = list(LINES)
    for position, junk in changes:
        lines[position] = junk
    problems: tuple[Problem, ...] = ()
    try:
        parse("\n".join(lines), "meshd.toml")
    except ConfigurationError as error:
        problems = error.problems
    assert all(1 <= problem.line <= len(lines) for problem in problems)
