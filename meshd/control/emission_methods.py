# SPDX-License-Identifier: Apache-2.0
"""The methods of emission control: orders, the schedule, breaking silence, plans, and the proof."""

from typing import Final

from meshd.control.method_spec import SECONDS, MethodSpec, integer, text
from meshd.control.params import ParamKind, ParamSpec
from meshd.control.roles import Role

_ORDER: Final = {
    "for_s": SECONDS,
    "until_ms": integer(nullable=True),
    "reason": text(nullable=True),
    "announce": ParamSpec(ParamKind.SWITCH, default=False),
}
_SCHEDULE: Final = {
    "rows": ParamSpec(ParamKind.TEXTS),
    "otherwise": text("silent"),
    "margin_s": ParamSpec(ParamKind.SECONDS, 2.0),
}

EMISSION_METHODS: Final = (
    MethodSpec("emcon.status", {}, "Tell the profile in force, who ordered it, and posture and gate per bearer."),
    MethodSpec(
        "emcon.set",
        {"profile": text(), **_ORDER},
        "Order an emission control profile, for a time or until further notice. `scheduled` leaves it to the schedule.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec(
        "emcon.schedule",
        {**_SCHEDULE, **_ORDER},
        "Order that a schedule decides. A row is such as `unrestricted from 00:00 for 5min every 1h`, in Zulu; where no"
        " row holds, `otherwise` does. Windows open later and end sooner by the margin.",
        role=Role.OPERATOR,
        audited=True,
    ),
    MethodSpec(
        "emcon.preview",
        {"profile": text(), **_SCHEDULE, "rows": ParamSpec(ParamKind.TEXTS, None, nullable=True)},
        "Tell what an order would change: postures, neighbours that would be cut off, bundles that would wait.",
    ),
    MethodSpec(
        "emcon.break",
        {
            "bearers": ParamSpec(ParamKind.TEXTS),
            "bundle": text(nullable=True),
            "for_s": SECONDS,
            "quota_bytes": integer(nullable=True),
            "reason": text(),
        },
        "Break silence on these bearers for bundles of FLASH or above, or for one of them, until the time or the quota"
        " is over. Answered when it is, with what left; a session that ends before ends it.",
        role=Role.OPERATOR,
        audited=True,
        breaks_silence=True,
    ),
    MethodSpec(
        "emcon.plan",
        {"node": text(nullable=True)},
        "Tell when this node and others are silent by the plans that they advertise, and when they may send.",
    ),
    MethodSpec(
        "emcon.verify",
        {},
        "Compare, per bearer, what the gate, the device and the node itself counted since its posture changed.",
    ),
)
