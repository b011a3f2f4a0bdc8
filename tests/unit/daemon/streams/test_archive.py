# SPDX-License-Identifier: Apache-2.0
"""An archive on the disk: what was synced is there after a crash, and old segments go."""

from collections.abc import Callable
from pathlib import Path

import pytest

from meshd.daemon.streams.archive import Archive, piece_key
from meshd.daemon.streams.segment import MAGIC, Contents, Kind, Record, segment_path
from meshd.stream.manifest import encode_manifest
from meshd.stream.piece import Piece, encode_piece
from tests.unit.stream.stream_samples import STREAM_ID, manifests_of, sample_pieces

DATA, PIECES = sample_pieces(seconds=6)
MANIFESTS = manifests_of(PIECES)


def record(piece: Piece) -> Record:
    return Record(Kind.PIECE, piece_key(piece.sequence, piece.tier), encode_piece(piece), piece.ingest_ms)


def write(archive: Archive, records: list[Record]) -> None:
    archive.written(records, archive.write(records))


def full(folder: Path) -> Archive:
    archive = Archive(STREAM_ID, folder)
    archive.recover()
    write(archive, [record(piece) for piece in PIECES])
    write(archive, [Record(Kind.MANIFEST, each.span, encode_manifest(each), 0) for each in MANIFESTS])
    write(archive, [Record(Kind.SETTLED, 0, b"", 0)])
    return archive


def reopened(folder: Path) -> Archive:
    archive = Archive(STREAM_ID, folder)
    archive.recover()
    return archive


def content(archive: Archive) -> bytes:
    parts = []
    for span in sorted(archive.manifests):
        manifest = archive.read_manifest(span)
        assert manifest is not None
        data, wrong = archive.read_span(manifest)
        assert not wrong
        parts.append(data)
    return b"".join(parts)


@pytest.mark.parametrize("is_closed", [True, False])
def test_all_is_there_after_a_restart(tmp_path: Path, is_closed: bool) -> None:
    archive = full(tmp_path / "a")
    if is_closed:
        archive.close()
    for found in (archive, reopened(tmp_path / "a"), reopened(tmp_path / "a")):
        assert content(found) == DATA
        assert found.settled == {0}
        assert found.index.pieces == len(PIECES)
        assert (found.size_bytes, found.newest_ms) == (archive.size_bytes, PIECES[-1].ingest_ms) or is_closed


@pytest.mark.parametrize("cut_bytes", [1, 10, 100, 1000])
def test_a_torn_end_is_cut_off_and_written_on(tmp_path: Path, cut_bytes: int) -> None:
    archive = Archive(STREAM_ID, tmp_path / "a")
    archive.recover()
    write(archive, [record(piece) for piece in PIECES])
    path = segment_path(archive.folder, 1)
    path.write_bytes(path.read_bytes()[:-cut_bytes])
    found = reopened(tmp_path / "a")
    assert found.index.pieces < len(PIECES)
    missing = [piece for piece in PIECES if not found.has(piece.sequence, piece.tier)]
    assert missing == PIECES[-len(missing) :]
    write(found, [record(piece) for piece in missing])
    write(found, [Record(Kind.MANIFEST, each.span, encode_manifest(each), 0) for each in MANIFESTS])
    assert content(reopened(tmp_path / "a")) == DATA


def test_a_damaged_record_is_missing_and_nothing_else(tmp_path: Path) -> None:
    archive = full(tmp_path / "a")
    archive.close()
    path = segment_path(archive.folder, 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = reopened(tmp_path / "a")
    wrong = [row for span in found.manifests for row in _wrong(found, span)]
    assert len(wrong) == 1
    assert found.read_encoded(*wrong[0]) is None


def _wrong(archive: Archive, span: int) -> list[tuple[int, int]]:
    manifest = archive.read_manifest(span)
    assert manifest is not None
    return archive.read_span(manifest)[1]


def test_a_damaged_table_of_contents_is_made_anew(tmp_path: Path) -> None:
    archive = full(tmp_path / "a")
    archive.close()
    path = segment_path(archive.folder, 1).with_suffix(".toc")
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    assert content(reopened(tmp_path / "a")) == DATA


def test_a_file_that_is_no_segment_is_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    segment_path(folder, 1).write_bytes(b"")
    found = reopened(folder)
    assert found.index.pieces == 0
    assert segment_path(folder, 1).read_bytes() == MAGIC
    write(found, [record(PIECES[0])])
    assert reopened(folder).has(PIECES[0].sequence, PIECES[0].tier)


def test_old_segments_go_with_what_was_in_them(tmp_path: Path, set_limit: Callable[[str, int], None]) -> None:
    set_limit("meshd.daemon.streams.archive.SEGMENT_MAX_BYTES", 30_000)
    archive = full(tmp_path / "a")
    middle_ms = PIECES[len(PIECES) // 2].ingest_ms
    old = archive.older_segments(middle_ms)
    assert old
    before = archive.size_bytes
    contents: list[Contents] = archive.drop_segments(old)
    archive.dropped(old, contents)
    assert archive.size_bytes < before
    assert not archive.has(PIECES[0].sequence, PIECES[0].tier)
    assert all(archive.has(piece.sequence, piece.tier) for piece in PIECES if piece.ingest_ms >= middle_ms)
    again = reopened(tmp_path / "a")
    assert (again.index.pieces, again.size_bytes) == (archive.index.pieces, archive.size_bytes)
    assert len(again.manifests) == len(MANIFESTS)


def test_all_of_it_can_be_removed(tmp_path: Path) -> None:
    archive = full(tmp_path / "a")
    archive.remove()
    assert list(tmp_path.iterdir()) == []
