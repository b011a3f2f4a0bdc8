# SPDX-License-Identifier: Apache-2.0
"""What must fit together for TLS: the files all or none, and no bearer that wants TLS without them."""

import dataclasses

from meshd.link.settings import TlsPolicy
from meshd.security.settings import TlsSettings
from meshd.settings.reader import DocumentReader, Row

_NEEDED = ("certificate", "key", "ca")


def check_tls(reader: DocumentReader, tls: Row, bearers: list[Row]) -> list[Row]:
    """Note what does not fit. The bearers with the policy that holds: require where there are files, else never."""
    named = [name for name in (*_NEEDED, "crl") if tls.values.get(name) is not None]
    missing = [name for name in _NEEDED if name in tls.values and tls.values[name] is None]
    if named and missing:
        reader.note(tls.path, f"{', '.join(missing)} is missing", f"TLS needs {', '.join(_NEEDED)}")
    default = TlsPolicy.REQUIRE if named else TlsPolicy.NEVER
    resolved = []
    for row in bearers:
        policy = row.values.get("tls", default) or default
        if policy is not TlsPolicy.NEVER and not named:
            reader.note(
                (*row.path, "tls"), "there is no certificate", "add a [tls] table: `meshctl pki` makes its files"
            )
        resolved.append(dataclasses.replace(row, values={**row.values, "tls": policy}))
    return resolved


def make_tls(tls: Row) -> TlsSettings | None:
    """None: no files are named."""
    values = tls.values
    if values["certificate"] is None:
        return None
    return TlsSettings(values["certificate"], values["key"], values["ca"], values["crl"])
