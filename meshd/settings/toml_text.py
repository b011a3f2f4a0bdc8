# SPDX-License-Identifier: Apache-2.0
"""TOML text to plain values, or an error that names the line."""

import re
import tomllib
from typing import Any

from meshd.settings.problem import ConfigurationError, Problem

_PLACE = re.compile(r" ?\(at (?:line (\d+), column \d+|end of document)\)$")


def parse_toml_untrusted(text: str, file_name: str) -> dict[str, Any]:
    """What `tomllib` makes of a text. Errors: ConfigurationError names the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _PLACE.search(message)
        line = int(place[1]) if place is not None and place[1] else text.rstrip("\n").count("\n") + 1
        reason = _PLACE.sub("", message)
        raise whole_file(file_name, f"it is not valid TOML: {reason}", "mend this line", line) from None
    except RecursionError:
        raise whole_file(file_name, "its brackets are nested too deeply", "name a configuration file") from None


def whole_file(file_name: str, reason: str, remedy: str, line: int = 1) -> ConfigurationError:
    """What is wrong with a file as a whole."""
    return ConfigurationError(file_name, [Problem(line, "", reason, remedy)])
