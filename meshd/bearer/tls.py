# SPDX-License-Identifier: Apache-2.0
"""TLS 1.3 around a TCP connection, certificates on both sides (RFC 9174 sections 4.4.3 and 4.4.4).

A non-blocking `ssl.SSLSocket`, which carries two to three times what trio's own TLS stream does. OpenSSL proves that
the peer holds its key and judges the certificate during the handshake, so that the peer is told by an alert what is
wrong with it; afterwards `meshd.security.identity` judges once more and reads the node ID. OpenSSL's judgement of time
and revocation is switched off where it would lock nodes out: while the host's clock is behind the time floor, where a
revocation list is out of date, and where there may be intermediate authorities, which need not all have a list. No
session is resumed: each one proves its peer anew.
"""

import ssl
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from socket import SHUT_WR, socket
from typing import Final

from meshd.base.errors import SettingsError
from meshd.bearer.sockets import explain
from meshd.bundle.eid import Eid
from meshd.cl.tcpclv4.settings import Role
from meshd.security.identity import IdentityError, NodeCertificate, Trust, read_own_certificate, read_trust
from meshd.security.settings import TlsSettings

RECORD_BYTES: Final = 16 * 1024
"""The largest TLS record: smaller buffers are joined up to it."""
SEND_BATCH_BYTES: Final = 256 * 1024
"""So much is encrypted before other tasks get their turn."""
_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for."""

_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer has no certificate",
    "UNSUPPORTED_PROTOCOL": "the peer offers no TLS 1.3",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer offers no TLS 1.3",
    "NO_PROTOCOLS_AVAILABLE": "the peer offers no TLS 1.3",
    "WRONG_VERSION_NUMBER": "the peer goes on in plain text",
    "HTTP_REQUEST": "the peer goes on in plain text",
    "RECORD_LAYER_FAILURE": "the peer goes on in plain text",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer got no certificate from us",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the peer says that our certificate is revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not accept our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer does not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the peer does not accept our certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know the CA of our certificate",
}
"""By OpenSSL's name of an error."""

_VERIFY_REASONS: Final = {
    9: "the peer's certificate, or an authority above it, is not yet valid",
    10: "the peer's certificate, or an authority above it, has expired",
    18: "unknown CA: the peer's certificate is signed by itself",
    19: "unknown CA: none of our trusted authorities has issued the peer's certificate",
    20: "unknown CA: none of our trusted authorities has issued the peer's certificate",
    21: "unknown CA: none of our trusted authorities has issued the peer's certificate",
    23: "the peer's certificate is revoked",
    25: "an authority above the peer's certificate allows no further one below it",
    26: "the peer's certificate is not for this: its extended key usage lacks clientAuth or serverAuth",
    79: "what stands above the peer's certificate may not issue any: it is no authority's, or lacks keyCertSign",
}
"""By OpenSSL's verify code (X509_V_ERR_...)."""


class TlsIdentity:
    """Who this node is, and whom it trusts, as the files said when this was made."""

    def __init__(
        self, settings: TlsSettings, node: Eid, clock: Callable[[], datetime], host_clock: Callable[[], datetime]
    ) -> None:
        """`clock` never goes behind the time floor, `host_clock` is what OpenSSL goes by.

        Errors: SettingsError when a file can't be used, or the certificate is not this node's.
        """
        self._clock = clock
        self._host_clock = host_clock
        self._trust = _read_trust(settings)
        self._own = read_own_certificate(_read(settings.certificate), str(settings.certificate))
        if node not in self._own.nodes:
            named = ", ".join(sorted(each.uri for each in self._own.nodes)) or "no node"
            raise SettingsError(
                f"{settings.certificate} names {named}, but this node is {node.uri}: name its own certificate"
            )
        self._contexts = {role: _make_context(settings, role) for role in Role}

    def warn(self) -> list[str]:
        """What somebody should see to: a certificate of ours that is not valid now, lists that are out of date."""
        now, own = self._clock(), self._own
        warnings = self._trust.find_stale_lists(now)
        if now > own.not_after:
            warnings.append(f"this node's certificate has expired on {own.not_after:%Y-%m-%d}: peers will refuse it")
        if now < own.not_before:
            warnings.append(f"this node's certificate begins on {own.not_before:%Y-%m-%d}: peers will refuse it")
        return warnings

    def wrap(self, sock: socket, role: Role) -> "TlsStream":
        """Put TLS around a connection; the caller shakes hands. The active side is TLS's client."""
        context = self._contexts[role]
        now = self._clock()
        lenient = self._host_clock() < now
        is_listed = self._trust.is_list_complete(now)
        # A connection takes its context's flags as they are when it is made.
        flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
        flags |= ssl.VERIFY_CRL_CHECK_LEAF if is_listed else ssl.VERIFY_DEFAULT
        context.verify_flags = ssl.VerifyFlags(flags | _NO_CHECK_TIME) if lenient else flags
        wrapped = context.wrap_socket(sock, server_side=role is Role.PASSIVE, do_handshake_on_connect=False)
        return TlsStream(wrapped)

    def check_peer(self, stream: "TlsStream") -> NodeCertificate:
        """What the peer's certificate says. Errors: IdentityError when it is not accepted."""
        der = stream.socket.getpeercert(binary_form=True)
        if der is None:
            raise IdentityError("the peer has no certificate")
        return self._trust.check_peer_untrusted(der, self._clock(), stream.read_chain())


class TlsStream:
    """A ByteStream; usable once `shake_hands` has returned."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.socket = sock
        self.security = "none"
        self._error: OSError | None = None

    def shake_hands(self) -> None:
        """Go on with the handshake. Errors: ssl.SSLWantReadError, SSLWantWriteError, OSError."""
        self.socket.do_handshake()
        cipher = self.socket.cipher()
        self.security = f"{self.socket.version()} {cipher[0] if cipher else ''}".strip()

    def read_chain(self) -> Sequence[bytes]:
        """All certificates that the peer sent, in DER; nothing of them is checked."""
        if sys.version_info >= (3, 13):
            return self.socket.get_unverified_chain()
        # Python has it from 3.10 on, and a public name for it from 3.13 on.
        chain = attrgetter("_sslobj.get_unverified_chain")(self.socket)()
        return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in chain or ()]

    def receive(self, size_max_bytes: int) -> bytes:
        """See ByteStream. OpenSSL gives one record at a time: take all that are there."""
        if self._error is not None:
            raise self._error
        read, left = self.socket.read, size_max_bytes
        pieces: list[bytes] = []
        while left:
            try:
                piece = read(left if left < RECORD_BYTES else RECORD_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not pieces:
                    raise BlockingIOError from None
                break
            except OSError as error:
                if not pieces:
                    raise
                self._error = error  # told by the next call, after what came before
                break
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """See ByteStream. Each call of OpenSSL makes one record, of what `_join` would give again after a wait."""
        send, total = self.socket.send, 0
        queue = list(buffers)
        while queue and total < SEND_BATCH_BYTES:
            try:
                size = send(_join(queue))
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not total:
                    raise BlockingIOError from None
                break
            except OSError:
                if not total:
                    raise
                break
            total += size
            _drop(queue, size)
        return total

    def end_sending(self) -> None:
        """See ByteStream: the closure alert (RFC 9174 section 4.4), then TCP's own end."""
        with suppress(OSError):  # the peer's alert is not waited for, and a peer that is gone needs none
            self.socket.unwrap()
        try:
            self.socket.shutdown(SHUT_WR)
        except OSError as error:
            explain(error)

    def explain_loss(self, error: OSError) -> str:
        """See ByteStream."""
        return explain_tls(error)


def explain_tls(error: OSError) -> str:
    """What an error of TLS or of the socket below means; any that is not expected is raised again."""
    match error:
        case ssl.SSLCertVerificationError():
            return _VERIFY_REASONS.get(error.verify_code, f"the peer's certificate: {error.verify_message}")
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return "the peer closed the connection"
        case ssl.SSLError():
            reason = str(error.reason or "unknown")
            return _REASONS.get(reason, f"TLS: {reason.lower().replace('_', ' ')}")
        case _:
            return explain(error)


def _join(buffers: Sequence[bytes | memoryview]) -> bytes | memoryview:
    """The first buffer, or, where it is small, as many as fill a record."""
    first = buffers[0]
    if len(first) >= RECORD_BYTES or len(buffers) == 1:
        return first
    parts: list[bytes | memoryview] = []
    room = RECORD_BYTES
    for buffer in buffers:
        parts.append(buffer if len(buffer) <= room else memoryview(buffer)[:room])
        room -= len(parts[-1])
        if not room:
            break
    return b"".join(parts)


def _drop(buffers: list[bytes | memoryview], size: int) -> None:
    """Take the first `size` bytes away."""
    done = 0
    for buffer in buffers:
        if size < len(buffer):
            break
        size -= len(buffer)
        done += 1
    del buffers[:done]
    if size:
        buffers[0] = memoryview(buffers[0])[size:]


def _make_context(settings: TlsSettings, role: Role) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if role is Role.PASSIVE else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the node ID counts, not where it is reached
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    if role is Role.PASSIVE:
        context.num_tickets = 0
    try:
        # An encrypted key must not make OpenSSL ask on the terminal.
        context.load_cert_chain(settings.certificate, settings.key, password=b"")
        context.load_verify_locations(cafile=settings.ca)
        if settings.crl is not None:
            context.load_verify_locations(cafile=settings.crl)
    except ssl.SSLError as error:
        reason = str(error.reason or error).lower().replace("_", " ")
        text = (
            f"{settings.certificate} and {settings.key} can't be used together ({reason}): name what belongs together"
        )
        raise SettingsError(text) from error
    except OSError as error:
        raise SettingsError(f"{settings.key} can't be read: {error.strerror}") from error
    return context


def _read_trust(settings: TlsSettings) -> Trust:
    crl = None if settings.crl is None else _read(settings.crl)
    return read_trust(_read(settings.ca), str(settings.ca), crl, str(settings.crl))


def _read(path: object) -> bytes:
    try:
        return Path(str(path)).read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}") from error
