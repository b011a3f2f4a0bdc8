# SPDX-License-Identifier: Apache-2.0
"""EMCON profiles: read from tables and files, checked against the bearers, and given the names that a site uses."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from meshd.emcon.order import SCHEDULED
from meshd.emcon.settings import EmconProfile
from meshd.link.settings import BearerKind, Posture
from meshd.settings import schema
from meshd.settings.line_finder import find_lines
from meshd.settings.problem import ConfigurationError
from meshd.settings.profile_files import ProfileFile
from meshd.settings.reader import DocumentReader, Row, nearest
from meshd.settings.regime import Regime
from meshd.settings.toml_text import parse_toml_untrusted

BUILT_IN: Final = {
    "unrestricted": EmconProfile("unrestricted", {}, Posture.OPEN),
    "silent": EmconProfile("silent", {}, Posture.RX_ONLY),
}
OTHERS: Final = ("others", "radiating")
"""Keys of a profile that are no bearers."""


def read_profiles(
    reader: DocumentReader, rows: Sequence[Row], bearers: Sequence[Row], emcon: Row, files: Sequence[ProfileFile]
) -> dict[str, EmconProfile]:
    """All by name, aliases included; what is wrong with a table goes to the reader.

    Errors: ConfigurationError: what is wrong with a file.
    """
    named = dict(BUILT_IN)
    for row in rows:
        if row.name in named or row.name == SCHEDULED:
            reader.note(row.path, "this profile is built in and can't be changed", "choose another name")
        _check(reader, row, bearers)
        named[row.name] = _profile(row.name, row)
    for file in files:
        profile = _read_file(file, bearers, named.get(file.name))
        named[file.name] = profile
    for alias, name in (emcon.values.get("aliases") or {}).items():
        path = (*emcon.path, "aliases", alias)
        if alias in named or alias == SCHEDULED:
            reader.note(path, "there is a profile with that name", "choose another name")
        elif name not in named:
            reader.note(path, f"there is no profile {name!r}", nearest(name, named))
        else:
            named[alias] = named[name]
    return named


def _read_file(file: ProfileFile, bearers: Sequence[Row], other: EmconProfile | None) -> EmconProfile:
    reader = DocumentReader(parse_toml_untrusted(file.text, file.file_name), find_lines(file.text))
    row = reader.read_whole(schema.EMCON_PROFILE)
    _check(reader, row, bearers)
    profile = _profile(file.name, row)
    if file.name == SCHEDULED or (file.name in BUILT_IN and profile != BUILT_IN[file.name]):
        reader.note((), "this profile is built in and can't be changed", "choose another name for the file")
    elif other is not None and file.name not in BUILT_IN:
        reader.note((), f"[emcon.profile.{file.name}] is there, too", "remove one of them")
    if reader.problems:
        raise ConfigurationError(file.file_name, reader.problems)
    return profile


def _check(reader: DocumentReader, row: Row, bearers: Sequence[Row]) -> None:
    names = [each.values["name"] for each in bearers if "name" in each.values]
    for name in row.others:
        if name not in names:
            candidates = [*names, *OTHERS]
            reader.note((*row.path, name), f"there is no bearer {name!r}", nearest(name, candidates))
    for bearer in bearers:
        if bearer.values.get("mark") != 0 or "name" not in bearer.values:
            continue
        key = _stands_for(row, bearer.values)
        if _regimes(row).get(key, Regime(Posture.OPEN)).posture is Posture.RESTRICTED:
            reason = f"{bearer.values['name']} has mark = 0, so that the kernel can't tell its frames from others"
            reader.note((*row.path, key), reason, "give the bearer a mark, or another posture")


def _stands_for(row: Row, bearer: Mapping[str, Any]) -> str:
    if bearer["name"] in row.others:
        return str(bearer["name"])
    radiating = bearer.get("radiating")
    if radiating is None:
        radiating = bearer.get("kind") is not BearerKind.TERRESTRIAL
    return "radiating" if radiating and row.values.get("radiating") is not None else "others"


def _regimes(row: Row) -> dict[str, Regime]:
    own = {name: row.values[name] for name in OTHERS if row.values.get(name) is not None}
    return {**own, **row.others}


def _profile(name: str, row: Row) -> EmconProfile:
    regimes = _regimes(row)
    radiating = regimes.get("radiating")
    return EmconProfile(
        name,
        {bearer: each.posture for bearer, each in row.others.items()},
        regimes.get("others", Regime(Posture.OPEN)).posture,
        None if radiating is None else radiating.posture,
        {key: each.restriction for key, each in regimes.items() if each.restriction is not None},
    )
