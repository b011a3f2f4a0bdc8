# SPDX-License-Identifier: Apache-2.0
"""Every key of a TOML text is found on its line, whatever strings and comments stand around it."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.settings.line_finder import KeyPath, find_lines


def paths_of(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """All paths of what tomllib made of a text."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths_of(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_of(inner, (*path, index))


def lines_by_marker(text: str) -> dict[KeyPath, int]:
    """The lines found, checked for completeness against tomllib."""
    lines = find_lines(text)
    assert set(lines) == set(paths_of(tomllib.loads(text)))
    return lines


def test_keys_of_tables_and_arrays_of_tables() -> None:
    text = """\
# a comment with [brackets] and = signs
top = 1

[node]
id = "x"   # behind = it

[[bearer]]
name = "a"
[bearer.extra]
deep = true

[[bearer]]
name = "b"
"""
    lines = lines_by_marker(text)
    assert lines["top",] == 2
    assert lines["node",] == 4
    assert lines["node", "id"] == 5
    assert lines["bearer", 0] == 7
    assert lines["bearer", 0, "name"] == 8
    assert lines["bearer", 0, "extra"] == 9
    assert lines["bearer", 0, "extra", "deep"] == 10
    assert lines["bearer", 1] == 12
    assert lines["bearer", 1, "name"] == 13


def test_dotted_quoted_and_inline_keys() -> None:
    text = """\
emcon.profile."quiet radio".los0 = "OPEN"
'a.b' . c = { x = 1, y = [ 1,
  2, # two ] }
  { z = "}" },
] }
"\\u0041\\U0001F600\\"" = 1
"""
    lines = lines_by_marker(text)
    assert lines["emcon", "profile", "quiet radio", "los0"] == 1
    assert lines["emcon",] == 1
    assert lines["a.b", "c", "y"] == 2
    assert lines["a.b", "c", "y", 1] == 3
    assert lines["a.b", "c", "y", 2, "z"] == 4
    assert lines['A\U0001f600"',] == 6


@pytest.mark.parametrize(
    "string",
    [
        '"""\n[bearer]\nname = 1 # no\n"""',
        '"""one "quote" and ""two"" \\""" escaped\n"""',
        '"""ends in quotes"""""',
        "'''\n[[x]]\n\"\"\" ' '' \n'''",
        "'''ends in quotes'''''",
        '"a # b = [ \\" ]"',
        "'C:\\dir\\'",
        '""',
        "''",
        '""""""',
        "''''''",
        '"""\\\n   folded"""',
    ],
)
def test_strings_do_not_confuse_it(string: str) -> None:
    text = f"first = {string}\nsecond = 2\n[table]\nthird = [{string}, {{ x = {string} }}]\n"
    lines = lines_by_marker(text)
    breaks = string.count("\n")
    assert lines["second",] == 2 + breaks
    assert lines["table", "third"] == 4 + breaks
    assert lines["table", "third", 1, "x"] == 4 + 2 * breaks


def test_all_kinds_of_scalars_and_line_ends() -> None:
    text = "a = 1979-05-27 07:32:00\r\nb = -1.5e3\r\n\r\nc = [ inf, 0x6d01, true, ]\r\nd = 1 # end"
    lines = lines_by_marker(text)
    assert [lines[name,] for name in "abcd"] == [1, 2, 4, 5]


def test_an_empty_text_has_only_its_root() -> None:
    assert find_lines("") == {(): 1}


NAMES = st.sampled_from(["a", "b", '"c d"', "'e.f'", "g.h", '"i\\tj"'])
SCALARS = st.sampled_from(
    ["1", "true", '"x"', "'y]'", '"""z\n= [ """', "'''\n#'''", "1.5", "1979-05-27", '"\\\\"', "[]", "{}"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: "[" + ",\n".join(values) + "]"),
        st.lists(inner, max_size=3).map(
            lambda values: "[ # ]\n" + "".join(value + " , # }\n" for value in values) + "]"
        ),
        st.dictionaries(NAMES, inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{name} = {value}" for name, value in table.items()) + "}"
        ),
    ),
    max_leaves=6,
)
STATEMENTS = st.one_of(
    st.builds("{} = {}".format, NAMES, VALUES),
    st.builds("[{}]".format, NAMES),
    st.builds("[[ {} ]] # c".format, NAMES),
    st.builds("[ {}.{} ]".format, NAMES, NAMES),
    st.sampled_from(["", "# comment = [", "   "]),
)


@given(st.lists(STATEMENTS, max_size=8))
def test_it_finds_exactly_the_paths_that_tomllib_reads(statements: list[str]) -> None:
    text = "\n".join(statements)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(find_lines(text)) == set(paths_of(data))
