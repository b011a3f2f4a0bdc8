# SPDX-License-Identifier: Apache-2.0
"""The endpoints of services that every node has, from what people call a node; and where their answers go."""

import re
from argparse import ArgumentTypeError
from typing import Final

SERVICE_FIRST: Final = 1 << 32
"""Of the endpoints that runs on an ipn node choose: above all service numbers that people give."""


def service_endpoint(text: str, name: str, number: str) -> str:
    """`home` and `dtn://home/` to dtn://home/NAME, `ipn:3` and `ipn:3.0` to ipn:3.NUMBER; a full endpoint ID stays."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        return f"dtn://{text}/{name}"
    if re.fullmatch(r"dtn://[!-.0-~]+/[!-~]*", text):
        return f"{text}{name}" if text.endswith("/") else text
    match = re.fullmatch(r"ipn:([0-9]+)(\.[0-9]+)?(\.[0-9]+)?", text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is no node; write its name (home), dtn://home/ or ipn:3")
    if match[2] is None:
        return f"{text}.{number}"
    return f"{text[:-2]}.{number}" if text.endswith(".0") else text


def answers_endpoint(node: str, name: str, tag: bytes) -> str:
    """An endpoint of this node that nobody else uses."""
    if node.startswith("ipn:"):
        return f"{node[:-1]}{SERVICE_FIRST + int.from_bytes(tag[:4], 'big')}"
    return f"{node}{name}-{tag.hex()}"
