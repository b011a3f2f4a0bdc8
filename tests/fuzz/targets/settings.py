# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: the text of a configuration file: a configuration, or one error that names every problem.

What follows a form feed, which no TOML text has, is the file of an EMCON profile beside it.
"""

from meshd.settings.load import FILE_SIZE_MAX_BYTES, parse
from meshd.settings.problem import ConfigurationError
from meshd.settings.profile_files import ProfileFile


def check(data: bytes) -> None:
    """One input; what is not UTF-8 is refused before the parser sees it."""
    if len(data) > FILE_SIZE_MAX_BYTES:
        return
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    error = _error(text)
    if error is not None:
        assert str(error).startswith(("fuzz.toml:", "profile.toml:")), "an error that does not name the file"
        assert 0 < len(error.problems) <= len(text) + 10, "more problems than there is text"


def _error(text: str) -> ConfigurationError | None:
    text, _, profile = text.partition("\f")
    try:
        parse(text, "fuzz.toml", [ProfileFile("reduced", "profile.toml", profile)] if profile else [])
    except ConfigurationError as error:
        return error
    return None


def seeds() -> dict[str, bytes]:
    """Small files; the corpus has the annotated example of some version too."""
    node = '[node]\nid = "dtn://dpop1/"\nstate_dir = "/tmp/x"\n'
    bearer = '[[bearer]]\nname = "lan0"\nkind = "terrestrial"\nlisten = "127.0.0.1:0"\n'
    rest = (
        '[[neighbour]]\nnode = "dtn://home/"\nbearer = "lan0"\naddress = "[::1]:4556"\n'
        '[[route]]\ndestination = "*"\nvia = "dtn://home/"\n[emcon]\nboot_posture = "RX_ONLY"\nlease = "5 s"\n'
        '[emcon.profile.quiet]\nlan0 = "OFF"\nothers = "OPEN"\n[store]\nquota = "8 GiB"\n'
    )
    profile = 'radiating = { posture = "RESTRICTED", quota = "1 MiB", duty = "10 %", precedence_min = "FLASH" }\n'
    return {
        "node": node.encode(),
        "all": (node + bearer + rest).encode(),
        "wrong": b'[node]\nid = 5\nx = 1\n[[bearer]]\nname = "a b"\n',
        "broken": b"[node\n",
        "profile": (node + bearer + '[emcon]\naliases = { B = "reduced" }\n\f' + profile).encode(),
    }


def dictionary() -> list[bytes]:
    """Keys and values."""
    words = "[node] [[bearer]] [[neighbour]] [[route]] [emcon.profile.x] id kind device listen rate keepalive = via"
    words += " posture quota management"
    values = '"satcom" "1 Mbit/s" "24 h" "dtn://a/" "ipn:1.0" "*" true 0x6d01 1e999 {} [] 1979-05-27 \'\'\'x\'\'\''
    return [word.encode() for word in (words + " " + values).split()]
