"""Is there anything in a zip file beside its members, and do the two headers of each say the same?

    0                                                                                                    size
    | header + member | header + member | ... | directory: a header of each | (ZIP64) | end, no comment |

Readers go by the directory or by the headers in front of the members; hashes of the members' contents see neither, nor
bytes that lie before, between and behind. Left alone is what no reader uses: the version and system that made a member,
and its attributes. Source: PKWARE APPNOTE.TXT 4.3. Test: tests/test_zip_structure.py.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

from runtimes.base import counted

HEADER, END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s4H2LH")
ZIP64_BYTES = 56 + 20
"""Of the record and its locator, between the directory and the end."""
FOLLOWS = 8
"""Bit of the flags: sizes and checksum come behind the member, and its header does not know them."""
LARGE = 0xFFFFFFFF
"""Stands for a size or place that only ZIP64's fields can hold."""


def faults(stream: IO[bytes], zipped: zipfile.ZipFile) -> Iterator[str]:
    """What is wrong with the structure of `zipped`, which was opened from the file `stream`."""
    at: int | None = 0
    for info in sorted(zipped.infolist(), key=lambda info: info.header_offset):
        yield from _between(at, info.header_offset, f"in front of {info.filename}")
        stream.seek(info.header_offset)
        header = HEADER.unpack(stream.read(HEADER.size))
        if list(_told(header)) != list(_expected(info, header)) or info.reserved or info.volume:
            yield f"the header of {info.filename} is not what the directory says"
        length = HEADER.size + sum(header[-2:]) + info.compress_size
        at = None if info.flag_bits & FOLLOWS else info.header_offset + length
    yield from _between(at, zipped.start_dir, "in front of the directory")
    yield from _end(stream, zipped.start_dir)


def _told(header: tuple[int, ...]) -> Iterable[int]:
    """Version, flags, method, time, date, checksum and both sizes."""
    return header[1:9]


def _expected(info: zipfile.ZipInfo, header: tuple[int, ...]) -> Iterable[int]:
    year, month, day, hour, minute, second = info.date_time
    yield info.extract_version
    yield info.flag_bits
    yield info.compress_type
    yield hour << 11 | minute << 5 | second // 2
    yield (year - 1980) << 9 | month << 5 | day
    if info.flag_bits & FOLLOWS:
        yield from header[6:9]
        return
    yield info.CRC
    for size, told in zip((info.compress_size, info.file_size), header[7:9], strict=True):
        yield told if told == LARGE else size


def _between(at: int | None, start: int, where: str) -> Iterator[str]:
    if at is not None and at != start:
        yield f"{counted(abs(start - at), 'byte')} {'too many' if start > at else 'too few'} {where}"


def _end(stream: IO[bytes], directory: int) -> Iterator[str]:
    size = stream.seek(0, 2)
    stream.seek(size - END.size)
    mark, *_, length, start, comment = END.unpack(stream.read(END.size))
    if mark != b"PK\x05\x06" or comment:
        yield "something stands behind its end"
        return
    wide = LARGE in (length, start)
    known = (size - END.size - ZIP64_BYTES - directory if wide else length), (directory if start == LARGE else start)
    if known[1] != directory or directory + known[0] + (ZIP64_BYTES if wide else 0) != size - END.size:
        yield "its directory does not end where it says"
