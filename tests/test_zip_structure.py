"""What hashes of members do not see: two headers that differ, and bytes that belong to no member."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from runtimes.proof.archive import Archive, Changed
from runtimes.proof.zip_structure import faults


def packed(**members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in members.items():
            made.writestr(zipfile.ZipInfo(name, (2026, 11, 30, 12, 34, 56)), text)
    return stream.getvalue()


GOOD = packed(a="first member, " * 9, b="", c="third")


def wrong(data: bytes) -> list[str]:
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream) as zipped:
        return list(faults(stream, zipped))


def test_what_is_packed_is_tight() -> None:
    assert wrong(GOOD) == []
    assert wrong(packed()) == []
    Archive(GOOD, "good").require_structure()


def test_every_bit_of_a_members_header_counts() -> None:
    """But for its name, which Python's reader compares itself, and the four bytes that mark it."""
    with zipfile.ZipFile(io.BytesIO(GOOD)) as zipped:
        starts = [info.header_offset for info in zipped.infolist()]
    for start in starts:
        for bit in range(8 * 4, 8 * 30):
            data = bytearray(GOOD)
            data[start + bit // 8] ^= 1 << bit % 8
            assert wrong(bytes(data)), f"bit {bit} of the header at {start}"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (GOOD + b"more", "something stands behind its end"),
        (b"#!/usr/bin/env python3\n" + GOOD, "23 bytes too many in front of a"),
    ],
)
def test_bytes_that_belong_to_no_member(data: bytes, fault: str) -> None:
    assert fault in wrong(data)
    with pytest.raises(Changed, match=f"^net: is not the zip that was packed: {fault}; build or copy it again$"):
        Archive(data, "net").require_structure()


def test_bytes_between_two_members_and_before_the_directory() -> None:
    def hole(before: str) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as made:
            made.writestr("a", "first")
            if before == "b":
                made.fp.write(b"hole")  # type: ignore[union-attr]
                made.start_dir += 4
            made.writestr("b", "second")
            if before == "directory":
                made.start_dir += 4
        return stream.getvalue()

    assert wrong(hole("nothing")) == []
    assert wrong(hole("b")) == ["4 bytes too many in front of b"]
    assert wrong(hole("directory")) == ["4 bytes too many in front of the directory"]


def test_members_whose_sizes_follow_them_are_read(tmp_path: Path) -> None:
    """As a writer makes them that cannot go back in its file; nobody's header knows their sizes."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    stream = Pipe()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("a", "first")
        made.writestr("b", "second")
    assert wrong(stream.getvalue()) == []


def test_large_files_keep_their_sizes_in_other_fields() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made, made.open("a", "w", force_zip64=True) as member:
        member.write(b"as if it were large")
    assert wrong(stream.getvalue()) == []
