# SPDX-License-Identifier: Apache-2.0
"""Bundles that come in pieces from one node: joined when the last piece is there."""

from collections import OrderedDict
from typing import Final

from meshd.cl.fountain.incoming_object import IncomingObject
from meshd.cl.fountain.object_format import Piece

ASSEMBLIES_MAX: Final = 16
"""Bundles in pieces of one node; the one that waited longest goes first."""


class Assembly:
    """The pieces of one bundle, and the objects that brought them."""

    def __init__(self, bundle_bytes: int) -> None:
        self.bundle_bytes = bundle_bytes
        self.pieces: dict[int, bytes] = {}
        self.objects: list[IncomingObject] = []

    def add(self, piece: Piece, item: IncomingObject) -> None:
        """A further piece."""
        self.objects.append(item)
        self.pieces[piece.offset] = piece.data

    def join(self) -> bytes | None:
        """The bundle; None: pieces are missing, or do not fit each other."""
        if sum(map(len, self.pieces.values())) < self.bundle_bytes:
            return None
        parts, end = [], 0
        for offset in sorted(self.pieces):
            if offset != end:
                return None
            parts.append(self.pieces[offset])
            end += len(parts[-1])
        return b"".join(parts) if end == self.bundle_bytes else None


class Assemblies:
    """All bundles in pieces of one node."""

    def __init__(self) -> None:
        self._assemblies: OrderedDict[bytes, Assembly] = OrderedDict()

    def add(self, piece: Piece, item: IncomingObject) -> tuple[bytes, list[IncomingObject]] | None:
        """A piece has come; the bundle and the objects that brought it once it is whole."""
        assembly = self._assemblies.pop(piece.transfer_id, None)
        if assembly is None or assembly.bundle_bytes != piece.bundle_bytes:
            assembly = Assembly(piece.bundle_bytes)
        assembly.add(piece, item)
        bundle = assembly.join()
        if bundle is not None:
            return bundle, assembly.objects
        self._assemblies[piece.transfer_id] = assembly
        return None

    def pop_excess(self) -> list[IncomingObject]:
        """The objects of what is too much: they have to come anew."""
        if len(self._assemblies) <= ASSEMBLIES_MAX:
            return []
        return self._assemblies.popitem(last=False)[1].objects
