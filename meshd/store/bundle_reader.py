# SPDX-License-Identifier: Apache-2.0
"""Reading stored bundles, whole or in pieces, wherever they lie by now. Every byte is checked against a CRC.

Any thread may read, while another one writes and tidies up.
"""

from meshd.base.errors import StoreError
from meshd.bundle.crc import crc32c
from meshd.bundle.record import PayloadRef
from meshd.store.contents import Contents
from meshd.store.disk import Disk
from meshd.store.errors import reason
from meshd.store.file_names import large_name, segment_name
from meshd.store.large_file import read_extent
from meshd.store.record_format import CRC_BYTES, pack_crc
from meshd.store.relocations import Relocations


class BundleReader:
    """Reads from the segments and files of one store.

    Args:
        relocations: where compaction has moved bundles.
    """

    def __init__(self, disk: Disk, contents: Contents, relocations: Relocations) -> None:
        self._disk = disk
        self._contents = contents
        self._relocations = relocations

    def read(self, ref: PayloadRef) -> bytes:
        """The encoded bundle.

        Errors:
            StoreError: it is damaged, deleted in the meantime, or the disk failed.
        """
        if ref.inline is not None:
            return ref.inline
        if ref.segment in self._contents.large:
            return self.read_piece(ref, 0, ref.size_bytes)
        place = self._relocations.find(ref)
        while True:
            name = segment_name(place.segment)
            try:
                data = self._disk.read(name, place.offset, place.size_bytes + CRC_BYTES)
                break
            except OSError as error:
                moved = self._relocations.find(ref)
                if moved is place:
                    raise StoreError(f"a bundle of {name} can't be read: {reason(error)}") from error
                place = moved  # out of a segment that has gone since
        bundle = data[: place.size_bytes]
        if data[place.size_bytes :] != pack_crc(crc32c(bundle)):
            raise StoreError(f"the bundle at offset {place.offset} of {name} is damaged: its checksum is wrong")
        return bundle

    def read_piece(self, ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
        """A part of an encoded bundle; of a large bundle only what is needed is read, of others all.

        Errors:
            StoreError: as for `read`.
        """
        if ref.inline is not None or ref.segment not in self._contents.large:
            return self.read(ref)[offset : offset + size_bytes]
        try:
            return read_extent(self._disk, ref, offset, size_bytes)
        except OSError as error:
            raise StoreError(f"the large bundle in {large_name(ref.segment)} can't be read: {reason(error)}") from error
