# SPDX-License-Identifier: Apache-2.0
"""A contact plan that was read from a text, with the lines that its contacts stood on."""

from dataclasses import dataclass, field
from typing import Final

from meshd.routing.contact import Contact
from meshd.routing.contact_plan import PlanError
from meshd.settings.problem import ConfigurationError, Problem

PLAN_TEXT_MAX_BYTES: Final = 16 * 1024 * 1024
"""A longer text is no plan."""


@dataclass(frozen=True, slots=True)
class PlanText:
    """What a text says, not checked against a plan yet."""

    contacts: list[Contact] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    """Of each contact, counted from 1."""
    warnings: list[str] = field(default_factory=list)
    """What the text says besides, and is passed over."""

    def explain(self, error: PlanError, file_name: str) -> ConfigurationError:
        """The problems of a refused edit with this text, by their lines."""
        problems = [
            Problem(self.lines[each.position] if self.lines else 1, each.key, each.reason, each.remedy)
            for each in error.problems
        ]
        return ConfigurationError(file_name, problems)


def decode_text(data: bytes, file_name: str) -> str:
    """The text of a file. Errors: ConfigurationError: it is too long, or not UTF-8."""
    if len(data) > PLAN_TEXT_MAX_BYTES:
        problem = Problem(1, "", f"it has more than {PLAN_TEXT_MAX_BYTES} bytes", "name a contact plan")
        raise ConfigurationError(file_name, [problem])
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(file_name, [Problem(line, "", "it is not UTF-8 text", "save it as UTF-8")]) from None
