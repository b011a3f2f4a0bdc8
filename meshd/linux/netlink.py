# SPDX-License-Identifier: Apache-2.0
"""Netlink messages and the socket that speaks them: just what the gate needs, no more.

Builds and cuts messages and attributes (linux/netlink.h), sends requests and reads acknowledgements and dumps. The
kernel works a request off inside `sendmsg`, so everything it has to say to one waits in the socket when that returns:
no call here waits for anybody. What the messages mean is `nfnetlink` and `traffic_control`.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from meshd.base.errors import MeshdError

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12

NLM_F_REQUEST: Final = 0x001
NLM_F_ACK: Final = 0x004
NLM_F_DUMP: Final = 0x300
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_REPLACE: Final = 0x100
NLM_F_APPEND: Final = 0x800
NLM_F_DUMP_INTR: Final = 0x010

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLA_TYPE_MASK: Final = 0x3FFF
NLA_F_NESTED: Final = 0x8000

DATAGRAM_MAX_BYTES: Final = 256 * 1024
"""No answer of the kernel is longer; a dump comes in pieces of at most 32 KiB."""
DUMP_MESSAGES_MAX: Final = 100_000
"""A dump with more is not the one of a host that we can watch over."""
DUMP_ATTEMPTS_MAX: Final = 5
REPLY_TIMEOUT_S: Final = 2
"""Only a dump's later pieces could ever wait; the daemon must not hang in them."""

_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NLMSGERR_ATTR_MSG: Final = 1
_TIMEVAL: Final = struct.Struct("@ll")
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")


class NetlinkError(MeshdError):
    """The kernel refused a request; `errno` has its number."""

    def __init__(self, number: int, doing: str, detail: str = "") -> None:
        name = errno.errorcode.get(number, str(number))
        super().__init__(f"{doing}: {os.strerror(number)} ({name})" + (f": {detail}" if detail else ""))
        self.errno = number


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message without its header's length."""

    type: int
    flags: int
    sequence: int
    port: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a NUL-terminated name."""
    return attribute(kind, os.fsencode(value) + b"\0")


def be32(kind: int, value: int) -> bytes:
    """An attribute of 32 bits in network order, as nfnetlink has them."""
    return attribute(kind, struct.pack(">I", value))


def attribute_list(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut attributes; stops where they do not add up."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < _ATTRIBUTE.size or offset + size > len(data):
            return
        yield kind & NLA_TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """The same by type; of several of one type, the last."""
    return dict(attribute_list(data))


def as_text(value: bytes | None) -> str:
    """The name in an attribute."""
    return "" if value is None else os.fsdecode(value.split(b"\0", 1)[0])


def message(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    """One request, padded."""
    size = _HEADER.size + len(body)
    return _HEADER.pack(size, kind, flags | NLM_F_REQUEST, sequence, 0) + body + bytes(-size % 4)


def message_list(datagram: bytes) -> Iterator[Message]:
    """Cut a datagram of the kernel into messages; stops where they do not add up."""
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        size, kind, flags, sequence, port = _HEADER.unpack_from(datagram, offset)
        if size < _HEADER.size or offset + size > len(datagram):
            return
        yield Message(kind, flags, sequence, port, datagram[offset + _HEADER.size : offset + size])
        offset += (size + 3) & ~3


class NetlinkSocket:
    """A socket for requests. It belongs to the network namespace in which it was made.

    Resource handling: closes with `close()` or `with`.
    Errors: OSError from the constructor where the kernel lacks the protocol, else NetlinkError.
    """

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(REPLY_TIMEOUT_S, 0))
        except OSError:
            self._socket.close()
            raise
        self._sequence = 0

    @property
    def port(self) -> int:
        """Our own port number: what the kernel notifies of our doing carries it."""
        address: tuple[int, int] = self._socket.getsockname()
        return address[0]

    def close(self) -> None:
        """Close the socket; nothing in the kernel changes by that."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def request(self, kind: int, flags: int, body: bytes, doing: str) -> None:
        """One request; returns when the kernel has done it.

        Errors: NetlinkError with the errno of the refusal.
        """
        self._sequence += 1
        self.transact(message(kind, flags | NLM_F_ACK, body, self._sequence), self._sequence, doing)

    def transact(self, datagram: bytes, acknowledged: int, doing: str) -> None:
        """Send requests that were built outside; the one with sequence number `acknowledged` asks for an ACK.

        Errors: NetlinkError with the first refusal's errno; EPROTO when the kernel said nothing at all.
        """
        self._drain()
        self._send(datagram, doing)
        done = False
        for answer in self._waiting(doing):
            if answer.type != NLMSG_ERROR:
                continue
            number = -struct.unpack_from("=i", answer.body)[0]
            if number:
                raise NetlinkError(number, doing, _error_text(answer))
            done = done or answer.sequence == acknowledged
        if not done:
            raise NetlinkError(errno.EPROTO, doing, "the kernel did not acknowledge")

    def dump(self, kind: int, body: bytes, doing: str, flags: int = NLM_F_DUMP) -> list[Message]:
        """All answers to a request; asked again when the table changed underneath.

        Errors: NetlinkError.
        """
        for _ in range(DUMP_ATTEMPTS_MAX):
            answers = self._dump_once(kind, body, doing, flags)
            if answers is not None:
                return answers
        raise NetlinkError(errno.EINTR, doing, "the table keeps changing")

    def _dump_once(self, kind: int, body: bytes, doing: str, flags: int) -> list[Message] | None:
        self._drain()
        self._sequence += 1
        self._send(message(kind, flags, body, self._sequence), doing)
        answers: list[Message] = []
        torn = False
        while True:
            for answer in message_list(self._receive(doing)):
                if answer.sequence != self._sequence:
                    continue
                if answer.type == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", answer.body)[0]
                    if number == errno.EINTR:
                        return None
                    if number:
                        raise NetlinkError(number, doing, _error_text(answer))
                    return answers
                torn = torn or bool(answer.flags & NLM_F_DUMP_INTR)
                if answer.type == NLMSG_DONE:
                    return None if torn else answers
                answers.append(answer)
                if flags & NLM_F_DUMP != NLM_F_DUMP:
                    return answers
                if len(answers) > DUMP_MESSAGES_MAX:
                    raise NetlinkError(errno.EMSGSIZE, doing, f"more than {DUMP_MESSAGES_MAX} entries")

    def _send(self, datagram: bytes, doing: str) -> None:
        try:
            self._socket.sendto(datagram, (0, 0))
        except OSError as exc:
            raise NetlinkError(exc.errno or errno.EIO, doing) from exc

    def _receive(self, doing: str) -> bytes:
        try:
            return self._socket.recv(DATAGRAM_MAX_BYTES)
        except BlockingIOError as exc:
            raise NetlinkError(errno.ETIMEDOUT, doing) from exc
        except OSError as exc:
            raise NetlinkError(exc.errno or errno.EIO, doing) from exc

    def _waiting(self, doing: str) -> Iterator[Message]:
        while True:
            try:
                datagram = self._socket.recv(DATAGRAM_MAX_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as exc:
                raise NetlinkError(exc.errno or errno.EIO, doing) from exc
            yield from message_list(datagram)

    def _drain(self) -> None:
        """Throw away what an earlier request that failed has left behind."""
        for _ in self._waiting("draining netlink"):
            pass


def _error_text(answer: Message) -> str:
    """The kernel's own words about a refusal (extended ACK), or nothing."""
    return as_text(attributes(answer.body[20:]).get(_NLMSGERR_ATTR_MSG))
