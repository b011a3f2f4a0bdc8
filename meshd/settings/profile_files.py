# SPDX-License-Identifier: Apache-2.0
"""EMCON profiles that are files, `emcon/NAME.toml` beside the configuration: each holds what a table of
`[emcon.profile.NAME]` would.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd.settings import value
from meshd.settings.problem import ConfigurationError, Problem
from meshd.settings.schema import PROFILES_MAX

FOLDER: Final = "emcon"
SUFFIX: Final = ".toml"
FILE_SIZE_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """One of them, as it was read."""

    name: str
    """Of the profile."""
    file_name: str
    """For messages."""
    text: str


def read_profile_files(configuration: Path) -> list[ProfileFile]:
    """Those that belong to a configuration file, in order of their names; none where there is no such folder.

    Errors: ConfigurationError names the file that can't be read.
    """
    folder = configuration.parent / FOLDER
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unusable(folder, f"it can't be read ({error.strerror})", "let meshd's user read it") from None
    if len(paths) > PROFILES_MAX:
        raise _unusable(folder, f"{len(paths)} profiles are too many", f"use at most {PROFILES_MAX}")
    return [_read(path) for path in paths]


def _read(path: Path) -> ProfileFile:
    try:
        value.name(path.stem)
    except value.ValueProblem as problem:
        raise _unusable(path, problem.reason, problem.remedy) from None
    try:
        with path.open("rb") as file:
            data = file.read(FILE_SIZE_MAX_BYTES + 1)
    except OSError as error:
        raise _unusable(path, f"it can't be read ({error.strerror})", "let meshd's user read it") from None
    if len(data) > FILE_SIZE_MAX_BYTES:
        raise _unusable(path, f"it has more than {FILE_SIZE_MAX_BYTES} bytes", "remove what is no profile")
    try:
        return ProfileFile(path.stem, str(path), data.decode())
    except UnicodeDecodeError:
        raise _unusable(path, "it is not UTF-8 text", "save it as UTF-8") from None


def _unusable(path: Path, reason: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(str(path), [Problem(1, "", reason, remedy)])
