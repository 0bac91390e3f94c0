"""A file that is held is read where it was opened, from any thread, and closed when nobody reads it."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import threading
import warnings
import zipfile
from pathlib import Path

import pytest

from runtimes.base import BadInput
from runtimes.proof.archive import Archive, Changed
from runtimes.proof.held import CHUNK, Held

LIMIT = 2**30
needs_pread = pytest.mark.skipif(not hasattr(os, "pread"), reason="this system opens the path for each stream")


def written(path: Path, data: bytes) -> Path:
    """By a rename, as whoever replaces a bundle does it."""
    beside = path.with_suffix(".tmp")
    beside.write_bytes(data)
    os.replace(beside, path)
    return path


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name, data in members.items():
            made.writestr(name, data)
    return stream.getvalue()


def opened_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_stream_reads_as_a_file_does(tmp_path: Path) -> None:
    """The oracle is Python's own file."""
    data = os.urandom(2 * CHUNK + 7)
    held = Held(written(tmp_path / "a", data), LIMIT)
    assert held.size == len(data)
    with held.stream() as ours, open(tmp_path / "a", "rb") as theirs:
        steps = [(5, 0), (-9, 2), (3, 0), (4, 1), (-2, 1), (len(data) + 5, 0), (0, 0)]
        for offset, whence in steps:
            assert ours.seek(offset, whence) == theirs.seek(offset, whence)
            assert ours.read(11) == theirs.read(11)
            assert ours.tell() == theirs.tell()
        assert ours.seek(0) == 0
        assert ours.read() == data
        for bad in ((-1, 0), (-len(data) - 1, 2)):
            with pytest.raises(OSError):  # noqa: PT011  (its text is the system's)
                ours.seek(*bad)


@needs_pread
def test_a_file_that_is_renamed_over_is_read_to_its_end(tmp_path: Path) -> None:
    held = Held(written(tmp_path / "a", b"old"), LIMIT)
    written(tmp_path / "a", b"another")
    assert (held.stream().read(), held.size) == (b"old", 3)
    (tmp_path / "a").unlink()
    assert held.stream().read() == b"old"
    written(tmp_path / "a", b"third")
    for again in (copy.copy(held), copy.deepcopy(held), pickle.loads(pickle.dumps(held))):
        assert again.stream().read() == b"third"  # another process has nothing but the name


@needs_pread
def test_a_file_that_is_written_over_in_place_is_the_same_file(tmp_path: Path) -> None:
    """What changes under an open bundle is found by its hashes, as before."""
    (tmp_path / "a.zip").write_bytes(zipped(x=b"one"))
    archive = Archive(tmp_path / "a.zip", "a")
    (tmp_path / "a.zip").write_bytes(zipped(x=b"two"))
    assert archive.read("x") == b"two"
    os.truncate(tmp_path / "a.zip", 20)
    with pytest.raises(Changed, match=r"^a: x is damaged"):
        archive.read("x")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not list open files")
def test_it_is_closed_with_its_last_reader_and_nobody_is_warned(tmp_path: Path) -> None:
    gc.collect()  # what other tests left
    path, before = written(tmp_path / "a", zipped(x=b"one")), opened_files()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        archive = Archive(path, "a")
        assert [archive.read("x") for _ in range(20)] == [b"one"] * 20
        assert opened_files() == before + 1
        stream = Held(path, LIMIT).stream()
        del archive
        gc.collect()
        assert (opened_files(), stream.read(2)) == (before + 1, b"PK")
        del stream
        gc.collect()
        (tmp_path / "a").write_bytes(b"no zip")
        for _ in range(20):
            with pytest.raises(BadInput):
                Archive(path, "a")
        gc.collect()
    assert opened_files() == before


def test_many_threads_read_one_archive(tmp_path: Path) -> None:
    members = {f"m{i}": bytes([i]) * (3 * CHUNK // 2 + i) for i in range(8)}
    archive, wrong = Archive(written(tmp_path / "a", zipped(**members)), "a"), list[str]()

    def read(name: str) -> None:
        wrong.extend(name for _ in range(20) if archive.read(name) != members[name])

    threads = [threading.Thread(target=read, args=(name,)) for name in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_fork_moves_nothing_of_its_parents(tmp_path: Path) -> None:
    archive = Archive(written(tmp_path / "a", zipped(x=b"one" * CHUNK)), "a")
    child = os.fork()
    if child == 0:
        good = all(archive.read("x") == b"one" * CHUNK for _ in range(5))
        del archive
        os._exit(0 if good else 1)
    assert all(archive.read("x") == b"one" * CHUNK for _ in range(5))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert archive.read("x") == b"one" * CHUNK


def test_where_the_system_has_no_pread_the_path_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pread", raising=False)
    path = written(tmp_path / "a.zip", zipped(x=b"one"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held, archive = Held(path, LIMIT), Archive(path, "a")
        assert held.size == path.stat().st_size
        assert archive.read("x") == b"one"
        archive.require_structure()
        with held.stream() as stream:
            assert stream.read(2) == b"PK"
    path.unlink()
    with pytest.raises(Changed, match=r"^a: x is damaged"):
        archive.read("x")


def test_what_is_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="no such file"):
        Held(tmp_path / "none", LIMIT)
    with pytest.raises(BadInput, match="the limit is 2"):
        Held(written(tmp_path / "a", b"abc"), 2)

    def full(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(BadInput, match=r"a: cannot be read \(Too many open files\); "):
        Held(tmp_path / "a", LIMIT)
