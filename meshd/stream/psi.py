# SPDX-License-Identifier: Apache-2.0
"""The tables of a transport stream that say what its PIDs carry (ISO/IEC 13818-1 section 2.4.4): PAT and PMT.

Sections are put together from packets, however many, and checked by their CRC. A table that never comes, is damaged or
can't be right changes nothing: the last good one holds, and damage is counted. A new version replaces the old one.
KLV is known by the stream type of metadata in PES packets, or as private data with the registration of SMPTE (ST 1402).
"""

import enum
from collections.abc import Iterator
from typing import Final

import msgspec

from meshd.base.errors import RemoteProtocolError

SECTION_MAX_BYTES: Final = 1024
"""Of a PAT or PMT."""
PROGRAMS_MAX: Final = 16
"""The tables of those beyond are not read."""
STREAMS_MAX: Final = 128
"""Of all programs; those beyond have no role."""
PID_PAT: Final = 0

_TABLE_PAT: Final = 0x00
_TABLE_PMT: Final = 0x02
_STUFFING: Final = 0xFF
_SECTION_HEAD_BYTES: Final = 3
_CRC_BYTES: Final = 4
_REGISTRATION: Final = 0x05
"""Tag of the descriptor with a format identifier."""
_KLVA: Final = b"KLVA"
_MPEG2_VIDEO: Final = 0x02
_PRIVATE_DATA: Final = 0x06
_METADATA: Final = 0x15
_H264: Final = 0x1B
_H265: Final = 0x24


class PsiError(RemoteProtocolError):
    """These bytes are no section of a PAT or PMT."""


class Role(enum.Enum):
    """What a PID carries, as far as it matters here."""

    MPEG2_VIDEO = enum.auto()
    H264 = enum.auto()
    H265 = enum.auto()
    KLV = enum.auto()
    OTHER = enum.auto()


VIDEO: Final = frozenset((Role.MPEG2_VIDEO, Role.H264, Role.H265))
_ROLES: Final = {_MPEG2_VIDEO: Role.MPEG2_VIDEO, _H264: Role.H264, _H265: Role.H265, _METADATA: Role.KLV}


class Program(msgspec.Struct, frozen=True):
    """What a PMT says of one program."""

    number: int
    pcr_pid: int
    roles: dict[int, Role]


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        crc = value << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7) if crc & 0x80000000 else crc << 1
        table.append(crc & 0xFFFFFFFF)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def mpeg_crc32(data: bytes) -> int:
    """CRC-32/MPEG-2: most significant bit first, not inverted at the end; 0 over a section with its CRC."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc << 8 ^ _CRC_TABLE[crc >> 24 ^ byte]) & 0xFFFFFFFF
    return crc


def _check_section(section: bytes, table: int, least_bytes: int) -> bool:
    """True: it is valid now, not announced for later. Errors: PsiError."""
    if len(section) < least_bytes or section[0] != table or not section[1] & 0x80:
        raise PsiError(f"a section of {len(section)} bytes is none of table {table}")
    if mpeg_crc32(section):
        raise PsiError(f"a section of table {table} has a wrong CRC")
    return bool(section[5] & 1)


def parse_pat_untrusted(section: bytes) -> dict[int, int] | None:
    """PID of the PMT by program number; None: it is not valid yet. Errors: PsiError."""
    if not _check_section(section, _TABLE_PAT, 12):
        return None
    words = [int.from_bytes(section[pos : pos + 4], "big") for pos in range(8, len(section) - _CRC_BYTES - 3, 4)]
    return {word >> 16: word & 0x1FFF for word in words if word >> 16}


def parse_pmt_untrusted(section: bytes) -> Program | None:
    """The program of a PMT; None: it is not valid yet. Errors: PsiError."""
    if not _check_section(section, _TABLE_PMT, 16):
        return None
    end = len(section) - _CRC_BYTES
    pcr_pid = (section[8] & 0x1F) << 8 | section[9]
    pos = 12 + ((section[10] & 0x0F) << 8 | section[11])
    roles: dict[int, Role] = {}
    while pos < end:
        after = pos + 5
        if after > end or (after := after + ((section[pos + 3] & 0x0F) << 8 | section[pos + 4])) > end:
            raise PsiError("a PMT has a stream that runs over its end")
        pid = (section[pos + 1] & 0x1F) << 8 | section[pos + 2]
        roles[pid] = _role(section[pos], section[pos + 5 : after])
        pos = after
    if pos != end:
        raise PsiError("a PMT has descriptors that run over its end")
    return Program(section[3] << 8 | section[4], pcr_pid, roles)


def _role(stream_type: int, descriptors: bytes) -> Role:
    if stream_type == _PRIVATE_DATA:
        return Role.KLV if _is_klv(descriptors) else Role.OTHER
    return _ROLES.get(stream_type, Role.OTHER)


def _is_klv(descriptors: bytes) -> bool:
    pos = 0
    while pos + 2 <= len(descriptors):
        after = pos + 2 + descriptors[pos + 1]
        if descriptors[pos] == _REGISTRATION and descriptors[pos + 2 : after][:4] == _KLVA:
            return True
        pos = after
    return False


class SectionAssembler:
    """Sections of one PID from the payloads of its packets (section 2.4.4.2)."""

    def __init__(self) -> None:
        self._rest: bytes | None = None

    def feed_untrusted(self, payload: bytes, starts_unit: bool) -> Iterator[bytes]:
        """Each section that ends in this payload; what can't be one is dropped, and begun anew where a unit starts."""
        if not starts_unit:
            if self._rest is not None:
                yield from self._take(self._rest + payload)
            return
        if not payload or payload[0] >= len(payload):
            self._rest = None
            return
        begin = 1 + payload[0]
        if self._rest is not None and payload[0]:
            yield from self._take(self._rest + payload[1:begin])
        yield from self._take(payload[begin:])

    def _take(self, data: bytes) -> Iterator[bytes]:
        """Cut off whole sections; keep a begun one."""
        pos = 0
        while pos < len(data) and data[pos] != _STUFFING:
            if len(data) - pos < _SECTION_HEAD_BYTES:
                break
            end = pos + _SECTION_HEAD_BYTES + ((data[pos + 1] & 0x0F) << 8 | data[pos + 2])
            if end - pos > SECTION_MAX_BYTES:
                self._rest = None
                return
            if end > len(data):
                break
            yield data[pos:end]
            pos = end
        self._rest = data[pos:] if pos < len(data) and data[pos] != _STUFFING else None


class ProgramMap:
    """What is known of a stream's PIDs, from the tables that passed by."""

    def __init__(self) -> None:
        self._assemblers: dict[int, SectionAssembler] = {PID_PAT: SectionAssembler()}
        self._seen: dict[int, bytes] = {}
        """The last good section of a PID: tables are repeated many times a second."""
        self._programs: dict[int, Program] = {}
        """By PID of the PMT."""
        self.roles: dict[int, Role] = {}
        self.damaged_sections = 0

    @property
    def table_pids(self) -> frozenset[int]:
        """Those that `take_untrusted` wants to see."""
        return frozenset(self._assemblers)

    @property
    def pcr_pids(self) -> frozenset[int]:
        """Those that carry the clock of a program."""
        return frozenset(program.pcr_pid for program in self._programs.values())

    def take_untrusted(self, pid: int, payload: bytes, starts_unit: bool) -> bool:
        """Take the payload of a packet of a table's PID; True: the roles may have changed."""
        has_changed = False
        for section in self._assemblers[pid].feed_untrusted(payload, starts_unit):
            if self._seen.get(pid) == section:
                continue
            try:
                has_changed |= self._take_pat(section) if pid == PID_PAT else self._take_pmt(pid, section)
            except PsiError:
                self.damaged_sections += 1
                continue
            self._seen[pid] = section
        return has_changed

    def _take_pat(self, section: bytes) -> bool:
        table = parse_pat_untrusted(section)
        if table is None:
            return False
        pids = set(list(table.values())[:PROGRAMS_MAX]) - {PID_PAT}
        for gone in self._assemblers.keys() - pids - {PID_PAT}:
            del self._assemblers[gone]
            self._seen.pop(gone, None)
            self._programs.pop(gone, None)
        for pid in pids - self._assemblers.keys():
            self._assemblers[pid] = SectionAssembler()
        return self._gather()

    def _take_pmt(self, pid: int, section: bytes) -> bool:
        program = parse_pmt_untrusted(section)
        if program is None:
            return False
        self._programs[pid] = program
        return self._gather()

    def _gather(self) -> bool:
        """True: always, since the caller knows the PIDs of the tables from here too."""
        roles: dict[int, Role] = {}
        for program in self._programs.values():
            for pid, role in program.roles.items():
                if len(roles) < STREAMS_MAX:
                    roles.setdefault(pid, role)
        self.roles = roles
        return True
