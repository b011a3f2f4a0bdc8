# SPDX-License-Identifier: Apache-2.0
"""A peer of the tests' own with a TLS that the test chooses: blocking, plain `ssl`, no code of meshd's shell."""

import socket
import ssl

from meshd.bundle.eid import Eid
from meshd.cl.tcpclv4.messages import CONTACT_HEADER_TLS, SessionInit, pack_session_init
from meshd.security.settings import TlsSettings

PATIENCE_S = 30.0


class TlsPeer:
    """Dials a node and says that it is alpha."""

    def __init__(self, address: str | None, context: ssl.SSLContext) -> None:
        assert address is not None
        host, _, port = address.rpartition(":")
        self._place = (host, int(port))
        self._context = context

    def talk(self) -> str:
        """Contact, handshake, SESS_INIT; the reason why it did not go on, or the answer."""
        with socket.create_connection(self._place, PATIENCE_S) as plain:
            plain.sendall(CONTACT_HEADER_TLS)
            assert plain.recv(6, socket.MSG_WAITALL) == CONTACT_HEADER_TLS
            try:
                with self._context.wrap_socket(plain) as sock:
                    sock.sendall(pack_session_init(SessionInit(15, 1 << 20, 1 << 20, Eid("dtn://alpha/"))))
                    return f"got {sock.recv(100)!r}"
            except OSError as error:
                return str(error)


def make_foreign_context(files: TlsSettings | None, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A client that checks nothing itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = most
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context
