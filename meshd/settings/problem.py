# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a configuration: every problem with its file, line, key, reason and remedy, all in one error."""

from dataclasses import dataclass
from typing import Final

from meshd.base.errors import SettingsError

PROBLEMS_MAX: Final = 20
"""So many are shown; a file with more is the wrong file."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    line: int
    """Counted from 1; 1 also where something is missing from the file as a whole."""
    key: str
    """Such as `bearer[2].rate` (tables of an array count from 1), empty when the file is no TOML at all."""
    reason: str
    remedy: str

    def render(self, file_name: str) -> str:
        """One line for a terminal or a journal."""
        subject = f"{self.key}: " if self.key else ""
        return f"{file_name}:{self.line}: {subject}{self.reason}; {self.remedy}"


class ConfigurationError(SettingsError):
    """A configuration can't be used; `problems` says why, in the order of their lines."""

    def __init__(self, file_name: str, problems: list[Problem]) -> None:
        self.file_name = file_name
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        lines = [problem.render(file_name) for problem in self.problems[:PROBLEMS_MAX]]
        if len(problems) > PROBLEMS_MAX:
            lines.append(f"{file_name}: and {len(problems) - PROBLEMS_MAX} more problems")
        super().__init__("\n".join(lines))
