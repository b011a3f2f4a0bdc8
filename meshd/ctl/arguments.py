# SPDX-License-Identifier: Apache-2.0
"""Arguments of meshctl: a parser that suggests the nearest name, and the types of its options."""

import argparse
import functools
import os
import re
from collections.abc import Iterable
from typing import Any, NoReturn, Protocol

from meshd.control.words import DEFAULT_ENDPOINT, PRECEDENCE_NAMES

_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[!-~]*)?")


class Commands(Protocol):
    """What `add_subparsers` returns."""

    def add_parser(self, name: str, **options: Any) -> "Parser":
        """Add a subcommand."""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Knows the width without shutil, which imports bz2 and lzma: argparse makes a formatter for every argument."""

    def __init__(self, prog: str, indent_increment: int = 2, max_help_position: int = 28) -> None:
        super().__init__(prog, indent_increment, max_help_position, _help_width())


@functools.cache
def _help_width() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns) > 0:
        return int(columns) - 2
    try:
        return os.get_terminal_size().columns - 2
    except OSError:
        return 78


class Parser(argparse.ArgumentParser):
    """argparse, without abbreviations of options, and with a suggestion for every name it does not know."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As ArgumentParser; epilogs keep their lines."""
        options.setdefault("formatter_class", _HelpFormatter)
        options["allow_abbrev"] = False
        super().__init__(*args, **options)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            hint = suggestion(str(value), choices) or f"; choose from {', '.join(choices)}"
            raise argparse.ArgumentError(action, f"{value!r} is unknown{hint}")

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line; unknown options get a suggestion."""
        unknown = re.match(r"unrecognized arguments: (-\S+)", message)
        if unknown:
            # What another command knows under the very same name is no help.
            others = [name for name in self.option_names() if name != unknown[1].partition("=")[0]]
            message = f"{unknown[1]} is unknown{suggestion(unknown[1], others)}"
        self.exit(2, f"{self.prog}: {message}\ntry '{self.prog} --help'\n")

    def option_names(self) -> list[str]:
        """Every long option of this parser and of its subcommands."""
        names = {name for action in self._actions for name in action.option_strings}
        for action in self._actions:
            if isinstance(action.choices, dict):
                names.update(*(parser.option_names() for parser in action.choices.values()))
        return sorted(names)


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'status'?`, or nothing when no known word is near."""
    import difflib

    near = difflib.get_close_matches(word.lower(), {name.lower(): name for name in known}, n=1, cutoff=0.5)
    originals = {name.lower(): name for name in known}
    return f"; did you mean {originals[near[0]]!r}?" if near else ""


def duration_ms(text: str) -> int:
    """The type of options such as `--lifetime 24h`."""
    from meshd.base.units import QuantityError, parse_duration_ms

    try:
        return parse_duration_ms(text)
    except QuantityError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def duration_s(text: str) -> float:
    """The type of options such as `--timeout 90s`."""
    return duration_ms(text) / 1000


def instant_ms(text: str) -> int:
    """The type of options such as `--until 2026-05-01T10:00:00Z`."""
    from meshd.emcon.schedule_text import ScheduleError, parse_instant_ms

    try:
        return parse_instant_ms(text)
    except ScheduleError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def count(text: str) -> int:
    """The type of options that take a whole number above 0."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def upper_case(text: str) -> str:
    """The type of options whose names are written in capitals."""
    return text.upper()


def add_precedence(parser: Parser, meaning: str | None = None) -> None:
    """The option --precedence of commands that send something."""
    parser.add_argument(
        "--precedence", metavar="P", type=upper_case, choices=PRECEDENCE_NAMES, default="ROUTINE", help=meaning
    )


def add_patience(parser: Parser, default_s: float, meaning: str) -> None:
    """The option --timeout of commands that wait for an answer; its default stands behind the meaning."""
    text = f"{meaning} (default {default_s:g}s)"
    parser.add_argument("--timeout", metavar="D", type=duration_s, default=default_s, help=text)


def node_id(text: str) -> str:
    """`home` to dtn://home/; a full node ID as it is."""
    if text.startswith(("dtn:", "ipn:")):
        return text
    if not text or "/" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no node: write its name (home) or its ID (dtn://home/)")
    return f"dtn://{text}/"


def size_bytes(text: str) -> int:
    """The type of options such as `--size "5 MB"`."""
    from meshd.base.units import QuantityError, parse_size_bytes

    try:
        return parse_size_bytes(text)
    except QuantityError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def destination(text: str) -> str:
    """`home` to dtn://home/inbox, `home/app` to dtn://home/app; a full endpoint ID as it is."""
    if text.startswith(("dtn:", "ipn:")):
        return text
    if not _NODE_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no destination; write a node (home), a node and an application (home/app), or a full"
            " endpoint ID (dtn://home/app)"
        )
    node, _, application = text.partition("/")
    return f"dtn://{node}/{application or DEFAULT_ENDPOINT}"
