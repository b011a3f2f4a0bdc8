# SPDX-License-Identifier: Apache-2.0
"""A contact plan in TOML: one `[[contact]]` table for each contact.

    [[contact]]
    from = "dtn://dpop1/"
    to = "dtn://home/"
    bearer = "satcom0"
    start = 2026-05-01T10:00:00.5Z
    end = 2026-05-01T11:00:00Z
    rate = "2 Mbit/s"
    delay = "0.27 s"

Also `loss`, `confidence` (shares) and `radiates`. What fits together across contacts is contact_plan.py's question.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from meshd.base.errors import SettingsError
from meshd.base.units import RATE_UNITS_BPS
from meshd.routing.contact import Contact
from meshd.routing.contact_plan import CONTACTS_MAX, DELAY_MAX_S, RATE_MAX_BPS
from meshd.settings import value
from meshd.settings.line_finder import find_lines
from meshd.settings.plan_text import PlanText
from meshd.settings.plan_value import instant, render_instant, render_seconds, render_share, seconds, share
from meshd.settings.problem import ConfigurationError
from meshd.settings.reader import DocumentReader, Row, nearest
from meshd.settings.schema import Key, Table
from meshd.settings.toml_text import parse_toml_untrusted

_TABLE: Final = "contact"


def parse_plan_toml_untrusted(text: str, file_name: str, reference_s: float) -> PlanText:
    """Read a plan; `reference_s` is the DTN time that relative times count from.

    Errors:
        ConfigurationError: names every problem with its line.
    """
    document = parse_toml_untrusted(text, file_name)
    lines = find_lines(text)
    reader = DocumentReader(document, lines)
    for name in document:
        if name != _TABLE:
            reader.note((name,), "there is no such table in a plan", nearest(name, [_TABLE]))
    rows = reader.read_array(_contact_table(reference_s))
    if reader.problems:
        raise ConfigurationError(file_name, reader.problems)
    return PlanText([_contact(row) for row in rows], [lines[row.path] for row in rows])


def read_contact(said: Mapping[str, Any], reference_s: float) -> Contact:
    """One contact from what would stand behind the keys of its table.

    Errors:
        SettingsError: names every key that can't be used.
    """
    reader = DocumentReader({_TABLE: [said]}, {(): 1})
    rows = reader.read_array(_contact_table(reference_s))
    if reader.problems:
        found = [f"{each.key.partition('.')[2]}: {each.reason}; {each.remedy}" for each in reader.problems]
        raise SettingsError("\n".join(found))
    return _contact(rows[0])


def render_plan_toml(contacts: Iterable[Contact]) -> str:
    """A plan as text; reading it gives the same contacts."""
    return "\n".join(map(_render, contacts))


def _contact_table(reference_s: float) -> Table:
    moment = instant(reference_s)
    return Table(
        _TABLE,
        (
            Key("from", value.node_id),
            Key("to", value.node_id),
            Key("bearer", value.name, None),
            Key("start", moment),
            Key("end", moment, None),
            Key("rate", value.rate_bps(1, RATE_MAX_BPS)),
            Key("delay", seconds, "0 s"),
            Key("loss", share, "0 %"),
            Key("confidence", share, "100 %"),
            Key("radiates", value.boolean, False),
        ),
        is_array=True,
        tables_max=CONTACTS_MAX,
    )


def _contact(row: Row) -> Contact:
    said = row.values
    return Contact(
        sender=said["from"],
        receiver=said["to"],
        bearer=said["bearer"] or "",
        start_s=said["start"],
        end_s=math.inf if said["end"] is None else said["end"],
        rate_bps=said["rate"],
        owd_s=min(said["delay"], DELAY_MAX_S + 1),
        loss=said["loss"],
        confidence=said["confidence"],
        radiates=said["radiates"],
    )


def _render(contact: Contact) -> str:
    pairs: list[tuple[str, Any]] = [("from", f'"{contact.sender.uri}"'), ("to", f'"{contact.receiver.uri}"')]
    if contact.bearer:
        pairs.append(("bearer", f'"{contact.bearer}"'))
    pairs.append(("start", render_instant(contact.start_s)))
    if contact.end_s != math.inf:
        pairs.append(("end", render_instant(contact.end_s)))
    pairs += [("rate", f'"{_render_rate(contact.rate_bps)}"'), ("delay", f'"{render_seconds(contact.owd_s)}"')]
    if contact.loss:
        pairs.append(("loss", f'"{render_share(contact.loss)}"'))
    if contact.confidence != 1:
        pairs.append(("confidence", f'"{render_share(contact.confidence)}"'))
    if contact.radiates:
        pairs.append(("radiates", "true"))
    return f"[[{_TABLE}]]\n" + "".join(f"{name} = {text}\n" for name, text in pairs)


def _render_rate(rate_bps: int) -> str:
    """In the largest unit of which it is a whole number."""
    name, unit = [(name, unit) for name, unit in RATE_UNITS_BPS.items() if rate_bps % unit == 0][-1]
    return f"{rate_bps // unit} {name}"
