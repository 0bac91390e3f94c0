"""Zip files and arrays made to hurt: each is refused in one line, quickly, in little memory, and nothing is written."""

import io
import stat
import time
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.base import BadInput
from runtimes.proof.archive import Archive, read_npy, read_npz, safe_name

GB = 2**30


def zipped(members: dict[str, bytes], **info: object) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # duplicate names
        for name, data in members.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for key, value in info.items():
                setattr(entry, key, value)
            archive.writestr(entry, data)
    return stream.getvalue()


def twice(name: str, other: str) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(name, b"one")
        archive.writestr(other, b"two")
    return stream.getvalue()


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    assert len(old) == len(new)
    return data.replace(old, new)


def central(data: bytes, offset: int, value: bytes) -> bytes:
    """`data` with bytes of its first central directory entry replaced (offsets of APPNOTE 4.3.12)."""
    start = data.index(b"PK\x01\x02") + offset
    return data[:start] + value + data[start + len(value) :]


def bomb() -> bytes:
    """2 GiB of zeros in 2 MB: a deflate stream of one repeated block, with sizes that say so truthfully."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    data = zipped({"model.onnx": b"x" * 10})
    head, tail = data[: data.index(b"PK\x01\x02")], data[data.index(b"PK\x01\x02") :]
    packed = len(body) * 2048
    tail = central(tail, 20, packed.to_bytes(4, "little") + (2 * GB).to_bytes(4, "little"))
    return head + body * 2048 + tail


def test_members_are_read_and_hashed() -> None:
    import hashlib

    archive = Archive(zipped({"a.txt": b"hello", "lib/b.bin": bytes(3 * 2**20)}), "x.edge")
    assert dict(archive.members) == {"a.txt": 5, "lib/b.bin": 3 * 2**20}
    assert archive.read("a.txt") == b"hello"
    assert archive.sha256("a.txt") == hashlib.sha256(b"hello").hexdigest()
    assert archive.sha256("lib/b.bin") == hashlib.sha256(bytes(3 * 2**20)).hexdigest()
    with pytest.raises(BadInput, match=r"^x.edge: has no c.txt"):
        archive.read("c.txt")
    assert archive.read("a.txt", 5) == b"hello"
    with pytest.raises(BadInput, match=r"a.txt has 5 bytes, the limit is 4"):
        archive.read("a.txt", 4)


GOOD = zipped({"a.txt": b"hello" * 100})
LINK = zipped({"a.txt": b"/etc/passwd"}, create_system=3, external_attr=(stat.S_IFLNK | 0o777) << 16)
HOSTILE = {  # what: (archive, what must be said)
    "zip slip": (zipped({"../../evil": b"x"}), "not a plain relative path"),
    "absolute": (zipped({"/etc/evil": b"x"}), "not a plain relative path"),
    "drive": (zipped({"C:evil": b"x"}), "not a plain relative path"),
    "backslash": (patched(zipped({"a/evil": b"x"}), b"a/evil", b"a\\evil"), "not a plain relative path"),
    "NUL in the name": (
        patched(zipped({"a.txtX": b"x"}), b"a.txtX", b"a.txt\0"),
        "not a plain relative path|not a whole zip",
    ),
    "escape codes": (zipped({"a\x1b[31m": b"x"}), r"not a plain relative path"),
    "folder entry": (zipped({"a/": b""}), "not a plain relative path"),
    "dot": (zipped({"./a": b"x"}), "not a plain relative path"),
    "symbolic link": (LINK, "a.txt is a link or device"),
    "duplicate": (twice("a.txt", "a.txt"), "has a.txt more than once"),
    "duplicate by case": (twice("a.txt", "A.TXT"), "has a.txt more than once"),
    "encrypted": (central(GOOD, 8, b"\x01\x00"), "is encrypted"),
    "unknown method": (central(GOOD, 10, b"\x0c\x00"), "compressed by method 12"),
    "grows without bound": (bomb(), r"would grow from [\d,]+ to 2,147,483,648 bytes"),
    "overlapping": (central(zipped({"a": b"x" * 9}), 20, (10**6).to_bytes(4, "little")), "overlap"),
    "truncated": (GOOD[:-10], "not a whole zip file"),
    "empty": (b"", "not a whole zip file"),
    "no zip": (b"PK" + bytes(100), "not a whole zip file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused(case: str, tmp_path: Path) -> None:
    data, message = HOSTILE[case]
    begin = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=message):
            Archive(data, "x.edge")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**23
    assert time.monotonic() - begin < 5
    (tmp_path / "x.edge").write_bytes(data)
    with pytest.raises(BadInput):
        Archive(tmp_path / "x.edge", "x.edge")


def test_many_members_cannot_add_up_to_a_bomb() -> None:
    """Each member alone stays below its own limit."""
    data = zipped({f"{n}.bin": bytes(2**23) for n in range(12)})
    with pytest.raises(BadInput, match="grow to more than 100 times"):
        Archive(data, "x.edge")


def test_stored_members_may_have_any_size_and_weights_pass() -> None:
    weights = np.random.default_rng(0).standard_normal(2**20).astype(np.float32).tobytes()
    assert Archive(zipped({"model.onnx": weights}), "x").read("model.onnx") == weights


@pytest.mark.parametrize("where", range(0, 90, 7))
def test_a_flipped_bit_is_found_or_harmless(where: int) -> None:
    """Wherever it hits: a clean refusal, or the same content."""
    data = bytearray(zipped({"a.txt": b"hello" * 100}))
    data[where] ^= 1
    try:
        content = Archive(bytes(data), "x").read("a.txt")
    except BadInput:
        return
    assert content == b"hello" * 100


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_random_damage_never_escapes_as_another_error(data) -> None:
    content = bytearray(zipped({"a.npy": b"hello" * 20, "b": b"x"}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        archive = Archive(bytes(content), "x")
        for name in archive.members:
            archive.read(name)
            archive.sha256(name)
    except BadInput:
        pass


@pytest.mark.parametrize("name", ["", "a//b", "a/..", "..", ".", "a/.", "a" * 201, "a*b", "a|b", "a\u202eb", "a\ud800"])
def test_unsafe_names(name: str) -> None:
    assert not safe_name(name)


def npy(array: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def header(text: str) -> bytes:
    """An .npy file whose header says `text` and that has 16 bytes after it."""
    padded = text.encode() + b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + bytes(16)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4, dtype=">f4"),
        np.array(3, np.int64),
        np.zeros((0, 3), np.uint8),
        np.array([True, False]),
        np.array(["cat", "dog"]),
        np.arange(3, dtype=np.float16),
    ],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)
def test_arrays_are_read_as_numpy_reads_them(array: np.ndarray) -> None:
    got = read_npy(npy(array), "x")
    np.testing.assert_array_equal(got, array)
    assert got.shape == array.shape
    assert got.dtype.isnative
    assert got.flags.writeable
    assert got.flags.c_contiguous


BAD_ARRAYS = {
    "terabytes claimed": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}"),
        "16 bytes follow",
    ),
    "too few bytes": (npy(np.arange(8.0))[:-1], "63 bytes follow"),
    "too many bytes": (npy(np.arange(8.0)) + b"x", "65 bytes follow"),
    "negative": (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -2)}"), "16 bytes follow"),
    "pickle": (npy(np.array([object()]), allow_pickle=True), "holds object"),
    "record": (npy(np.zeros(2, [("a", "f4")])), "only plain numbers"),
    "date": (npy(np.zeros(2, "M8[s]")), "only plain numbers"),
    "empty": (b"", "not an .npy"),
    "text": (b"1,2,3\n" * 10, "not an .npy"),
    "version": (b"\x93NUMPY\x09\x00" + bytes(100), "not an .npy"),
    "code": (header("__import__('os').system('true')"), "not an .npy"),
    "nested": (header("(" * 100), "not an .npy"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_a_hostile_array_is_refused(case: str) -> None:
    data, message = BAD_ARRAYS[case]
    with pytest.raises(BadInput, match=message):
        read_npy(data, "x.npy")


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_both_versions_of_the_format_are_read(version: tuple[int, int]) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.arange(6.0), version=version)
    np.testing.assert_array_equal(read_npy(stream.getvalue(), "x"), np.arange(6.0))


def test_npz_files_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    arrays = {"x": np.arange(5.0), "y": np.ones((2, 2), np.uint8)}
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    for path in (tmp_path / "plain.npz", tmp_path / "packed.npz"):
        got = read_npz(path, "x.npz", 10**6)
        assert got.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(got[name], array)
    with pytest.raises(BadInput, match=r"x.npz: holds [\d,]+ bytes, the limit is 100"):
        read_npz(tmp_path / "plain.npz", "x.npz", 100)
