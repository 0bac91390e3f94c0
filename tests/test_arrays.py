"""Array files: numpy wrote them, we read them; headers that lie are found before memory is asked for."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtimes.base import Array, BadInput
from runtimes.imaging import arrays
from runtimes.imaging.arrays import read_npy, read_npz

DATA = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)


def npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def header(text: str, body: bytes = b"") -> bytes:
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + body


def bomb() -> bytes:
    """An archive whose directory claims 2 GiB; the directory is what is read first."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", b"")
        archive.infolist()[0].file_size = 2 << 30
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "|u1", "<i8", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_saves_is_read_back(tmp_path: Path, dtype: str, order: str) -> None:
    array = np.asarray(DATA * 50, order=order).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", x=array, y=np.arange(4))
    assert np.array_equal(read_npy(tmp_path / "a.npy"), array)
    assert np.array_equal(read_npz(tmp_path / "a.npz")["x"], array)
    assert read_npz(tmp_path / "a.npz")["y"].tolist() == [0, 1, 2, 3]


def test_a_large_npy_is_mapped_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((64, 1 << 18), np.float32))  # 64 MiB
    tracemalloc.start()
    assert read_npy(tmp_path / "a.npy")[63, 5] == 0
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


BAD_NPY: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "is empty"),
    "text": (b"hello, this is text", "is not a .npy array"),
    "cut in half": (npy(DATA)[:200], "is cut off, 72 bytes of 240"),
    "no samples": (npy(np.zeros((0, 3))), r"is empty, shape \[0, 3\]"),
    "objects": (npy(np.array([{}, []], object)), "holds object, not numbers"),
    "strings": (npy(np.array(["a"])), "holds <U1, not numbers"),
    "complex": (npy(np.zeros(3, complex)), "holds complex128, not numbers"),
    "records": (npy(np.zeros(3, [("a", "f4")])), "not numbers"),
    "2^40 floats": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }", b"\0" * 64),
        "is cut off",
    ),
    "negative": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }", b"\0" * 64),
        "is cut off|damaged",
    ),
    "expression": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (print('ran'),), }"),
        "is not a .npy array",
    ),
    "parentheses": (header("(" * 60), "is not a .npy array"),
    "version 9": (b"\x93NUMPY\x09\x00" + bytes(200), "is not a .npy array"),
}


@pytest.mark.parametrize("case", BAD_NPY)
def test_bad_npy_files(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, complaint = BAD_NPY[case]
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(BadInput, match=complaint) as caught:
        read_npy(tmp_path / "a.npy")
    assert str(caught.value).startswith(str(tmp_path))
    assert capsys.readouterr().out == ""


def packed(**members: bytes) -> Callable[[], bytes]:
    def make() -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name, data in members.items():
                archive.writestr(f"{name}.npy", data)
        return stream.getvalue()

    return make


def flipped() -> bytes:
    data = bytearray(packed(x=npy(DATA))())
    data[data.index(DATA.tobytes()) + 8] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: b"PK no zip", "is not an .npz archive"),
        (bomb, "unpacks to 2,147,483,648 bytes, the limit is 1,073,741,824; save the images alone as .npy"),
        (flipped, "Bad CRC-32"),
        (packed(x=npy(np.array([{}], object))), "holds object, not numbers"),
        (packed(x=npy(np.array(["a"])), y=npy(np.array(["a"]))), r"a.npz\[x.npy\]: holds <U1, not numbers"),
        (packed(y=npy(np.array([b"a"]))), r"a.npz\[y.npy\]: holds \|S1, not numbers"),
        (packed(x=npy(DATA)[:150]), r"a.npz\[x.npy\]: is cut off"),
        (packed(x=b"text"), "is not an .npz archive"),
    ],
)
def test_bad_npz_files(tmp_path: Path, make: Callable[[], bytes], complaint: str) -> None:
    (tmp_path / "a.npz").write_bytes(make())
    with pytest.raises(BadInput, match=complaint):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("read", [read_npy, read_npz])
def test_a_named_pipe_is_not_opened(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(BadInput, match="is a pipe"):
        read(tmp_path / "a")


def test_the_limit_is_on_all_members_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", x=DATA, y=DATA)
    monkeypatch.setattr(arrays, "NPZ_LIMIT_BYTES", 700)  # two members of 128 + 240 bytes
    with pytest.raises(BadInput, match="unpacks to 736 bytes"):
        read_npz(tmp_path / "a.npz")
