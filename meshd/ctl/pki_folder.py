# SPDX-License-Identifier: Apache-2.0
"""The folder of a mission's authority: what lies where, and the work on it. Imported only by `meshctl pki`, lazily.

    FOLDER/ca.pem ca.key crl.pem      the authority; the folder itself is what must be guarded
    FOLDER/link.key link.peers        the mission's link keys, and the public link key of each node that has one
    FOLDER/signing.peers              the public signing key of each node
    FOLDER/issued/SERIAL.pem          every certificate ever issued, so that it can be revoked
    FOLDER/nodes/NAME/                what one node gets: its certificate and keys, and copies of ca, crl, link
                                      and peers files

Public files are written with mode 0600 as well: the node's folder is copied as it is.
"""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid
from meshd.security.boot_number import pack_boot_number
from meshd.security.identity import NodeCertificate, read_certificate_untrusted
from meshd.security.keys import KeyKind, make_private_key, private_key_from_pem, private_key_to_pem, public_key_to_pem
from meshd.security.link_keys import (
    LINK_KEY_BYTES,
    LINK_KEY_FILE_MAX_BYTES,
    LinkKeys,
    pack_link_keys,
    parse_link_keys_untrusted,
)
from meshd.security.link_peers import (
    link_private_key_to_pem,
    make_link_private_key,
    pack_link_peers,
    parse_link_peers_untrusted,
)
from meshd.security.member_keys import MEMBER_KEYS_FILE_MAX_BYTES, MEMBERS_MAX
from meshd.security.pki import Authority, Revocation, issue_certificate, make_authority, make_crl, to_pem
from meshd.security.signing_peers import make_signing_key, pack_signing_peers, parse_signing_peers_untrusted
from meshd.settings.private_file import read_private, write_private

PEM_FILE_MAX_BYTES: Final = 16 * 1024 * 1024
"""A revocation list with some hundred thousand entries."""
DIRECTORY_MODE: Final = 0o700
_SERIAL_BITS: Final = 159

Row = dict[str, Any]


class PkiFolder:
    """One mission's authority on the disk. `now` is the time of the work."""

    def __init__(self, path: Path, now: datetime) -> None:
        self._path = path
        self._now = now.replace(microsecond=0)

    def init(self, name: str, kind: str, lifetime: timedelta, crl_lifetime: timedelta, *, force: bool) -> Row:
        """Make authority, empty revocation list and link keys. Errors: SettingsError."""
        if not force and any((self._path / file).exists() for file in ("ca.pem", "ca.key", "link.key")):
            raise SettingsError(
                f"{self._path} holds an authority already: use --force to replace it, or another folder"
            )
        _make_directory(self._path)
        _make_directory(self._path / "issued")
        _make_directory(self._path / "nodes")
        authority = make_authority(name, make_private_key(KeyKind(kind)), _make_serial(), self._now, lifetime)
        self._write("ca.key", private_key_to_pem(authority.key), force=force)
        self._write("ca.pem", to_pem(authority.certificate), force=force)
        self._write("crl.pem", to_pem(make_crl(authority, (), 1, self._now, crl_lifetime)), force=force)
        self._write("link.key", pack_link_keys(LinkKeys({1: secrets.token_bytes(LINK_KEY_BYTES)}, 1)), force=force)
        self._write("link.peers", pack_link_peers({}), force=force)
        self._write("signing.peers", pack_signing_peers({}), force=force)
        return {"folder": str(self._path), "name": name} | _describe_times(authority.certificate)

    def issue(self, node: Eid, kind: str, lifetime: timedelta, *, force: bool) -> Row:
        """Make a node's folder. Errors: SettingsError."""
        authority = self._read_authority()
        end = authority.certificate.not_valid_after_utc
        if end <= self._now:
            raise SettingsError(f"the authority in {self._path} has expired on {end.isoformat()}: make another one")
        folder = self._path / "nodes" / name_of(node)
        if not force and (folder / "node.key").exists():
            raise SettingsError(f"{folder} is there already: use --force to give {node.uri} new keys and certificate")
        _make_directory(folder)
        key, signing_key = make_private_key(KeyKind(kind)), make_signing_key()
        signers = self._read_signing_peers() | {node: signing_key.public_key().public_bytes_raw()}
        link_key = make_link_private_key()
        peers = self._read_link_peers() | {node: link_key.public_key().public_bytes_raw()}
        if len(peers) > MEMBERS_MAX:
            raise SettingsError(f"{self._path} has issued to {MEMBERS_MAX} nodes: `meshctl pki revoke` takes some out")
        certificate = issue_certificate(authority, node, key.public_key(), _make_serial(), self._now, lifetime)
        self._write(f"issued/{certificate.serial_number:x}.pem", to_pem(certificate), force=False)
        files = {
            "node.key": private_key_to_pem(key),
            "node.pem": to_pem(certificate),
            "signing.key": private_key_to_pem(signing_key),
            "signing.pub": public_key_to_pem(signing_key.public_key()),
            "ca.pem": to_pem(authority.certificate),
            "crl.pem": self._read("crl.pem"),
            "link.key": pack_link_keys(self._read_link_keys()),
            "link.x25519": link_private_key_to_pem(link_key),
            "link.boot": pack_boot_number(int(self._now.timestamp())),
        }
        for file, data in files.items():
            write_private(folder / file, data, overwrite=force)
        self._share("link.peers", pack_link_peers(peers))
        self._share("signing.peers", pack_signing_peers(signers))
        return {"node": node.uri, "folder": str(folder)} | _describe_times(certificate)

    def revoke(self, whom: str, crl_lifetime: timedelta) -> list[Row]:
        """Revoke a serial, or all that a node ID has; renew the list, in the nodes' folders too. Errors: SettingsError.

        Whoever is revoked already stays it; `whom` empty only renews the list. A node that has no good certificate left
        is taken out of link.peers and signing.peers.
        """
        authority = self._read_authority()
        old = self._read_list()
        revoked = {each.serial_number: each.revocation_date_utc for each in old}
        chosen = [row for row in self._rows() if whom and whom in (row["serial"], *row["nodes"])]
        if whom and not chosen:
            raise SettingsError(f"{self._path} has issued nothing to {whom}: `meshctl pki show` lists what there is")
        for row in chosen:
            revoked.setdefault(int(row["serial"], 16), self._now)
        number = old.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
        rows = [Revocation(serial, since) for serial, since in revoked.items()]
        pem = to_pem(make_crl(authority, rows, number, self._now, crl_lifetime))
        self._share("crl.pem", pem)
        serials = {row["serial"] for row in chosen}
        rows_now = list(self._rows())
        gone = {node for row in rows_now if row["serial"] in serials for node in row["nodes"]}
        gone -= {node for row in rows_now if row["state"] == "good" for node in row["nodes"]}
        peers = self._read_link_peers()
        self._share("link.peers", pack_link_peers({node: peers[node] for node in peers if node.uri not in gone}))
        signers = self._read_signing_peers()
        left = {node: signers[node] for node in signers if node.uri not in gone}
        self._share("signing.peers", pack_signing_peers(left))
        return [row for row in rows_now if row["serial"] in serials]

    def roll(self, step: str) -> Row:
        """One step of a roll of the link key, in the nodes' folders too. Errors: SettingsError: it is not its turn."""
        keys = self._read_link_keys()
        match step:
            case "add":
                if keys.newest != keys.current:
                    raise SettingsError(f"epoch {keys.newest} is not in use yet: `meshctl pki roll use` comes first")
                keys = keys.add(secrets.token_bytes(LINK_KEY_BYTES))
            case "use":
                if keys.newest == keys.current:
                    raise SettingsError(f"epoch {keys.current} is the newest: `meshctl pki roll add` comes first")
                keys = keys.use_newest()
            case "drop":
                keys = keys.drop_old()
            case _:
                raise AssertionError(step)
        self._share("link.key", pack_link_keys(keys))
        return {"epochs": sorted(keys.keys), "current": keys.current}

    def show(self) -> Row:
        """The authority and everything that it has issued. Errors: SettingsError."""
        certificate = self._read_certificate("ca.pem")
        crl = self._read_list()
        next_update = crl.next_update_utc
        keys = self._read_link_keys()
        return {
            "folder": str(self._path),
            "name": certificate.subject.rfc4514_string().removeprefix("CN="),
            **_describe_times(certificate),
            "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
            "crl_next_update": None if next_update is None else next_update.isoformat(),
            "link_key_epochs": sorted(keys.keys),
            "link_key_current": keys.current,
            "certificates": list(self._rows()),
        }

    def _rows(self) -> Iterator[Row]:
        crl = self._read_list()
        for path in sorted((self._path / "issued").glob("*.pem")):
            certificate = self._read_certificate(f"issued/{path.name}")
            said = read_certificate_untrusted(certificate.public_bytes(Encoding.DER))
            is_revoked = crl.get_revoked_certificate_by_serial_number(said.serial) is not None
            yield {
                "serial": f"{said.serial:x}",
                "nodes": sorted(node.uri for node in said.nodes),
                "state": self._state_of(said, is_revoked=is_revoked),
                "not_after": said.not_after.isoformat(),
            }

    def _state_of(self, certificate: NodeCertificate, *, is_revoked: bool) -> str:
        if is_revoked:
            return "revoked"
        return "expired" if certificate.not_after < self._now else "good"

    def _read_authority(self) -> Authority:
        key = private_key_from_pem(self._read("ca.key"), str(self._path / "ca.key"))
        return Authority(self._read_certificate("ca.pem"), key)

    def _read_certificate(self, file: str) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self._read(file))
        except ValueError as error:
            raise SettingsError(f"{self._path / file} has no readable certificate") from error

    def _read_list(self) -> x509.CertificateRevocationList:
        try:
            return x509.load_pem_x509_crl(self._read("crl.pem"))
        except ValueError as error:
            raise SettingsError(f"{self._path / 'crl.pem'} has no readable revocation list") from error

    def _read_link_keys(self) -> LinkKeys:
        path = self._path / "link.key"
        return parse_link_keys_untrusted(read_private(path, LINK_KEY_FILE_MAX_BYTES), str(path))

    def _read_link_peers(self) -> dict[Eid, bytes]:
        path = self._path / "link.peers"
        return parse_link_peers_untrusted(read_private(path, MEMBER_KEYS_FILE_MAX_BYTES), str(path))

    def _read_signing_peers(self) -> dict[Eid, bytes]:
        path = self._path / "signing.peers"
        return parse_signing_peers_untrusted(read_private(path, MEMBER_KEYS_FILE_MAX_BYTES), str(path))

    def _read(self, file: str) -> bytes:
        return read_private(self._path / file, PEM_FILE_MAX_BYTES)

    def _share(self, file: str, data: bytes) -> None:
        """Renew a file that every node has a copy of."""
        self._write(file, data, force=True)
        for folder in sorted((self._path / "nodes").iterdir()):
            write_private(folder / file, data, overwrite=True)

    def _write(self, file: str, data: bytes, *, force: bool) -> None:
        write_private(self._path / file, data, overwrite=force)


def name_of(node: Eid) -> str:
    """The folder of a node: `dpop1` for dtn://dpop1/, `ipn-1.0` for ipn:1.0."""
    text = node.uri.removeprefix("dtn://").rstrip("/").replace(":", "-")
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in text).lstrip(".") or "_"


def utc_now() -> datetime:
    """The host's clock."""
    return datetime.now(UTC)


def _make_serial() -> int:
    """Positive, not to be guessed, at most 20 bytes (RFC 5280 section 4.1.2.2)."""
    return secrets.randbits(_SERIAL_BITS) | 1


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{path} can't be made: {error.strerror}") from error


def _describe_times(certificate: x509.Certificate) -> Row:
    return {
        "serial": f"{certificate.serial_number:x}",
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }
