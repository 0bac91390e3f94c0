"""Outputs appear whole or not at all, inputs are looked at before they are opened."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtimes import files
from runtimes.base import BadInput

MB = 2**20


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_write_atomic_writes_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    files.write_atomic(target, b"one")
    files.write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert leftovers(tmp_path) == ["out.bin"]


def test_the_result_has_the_permissions_of_an_ordinary_new_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        files.write_atomic(tmp_path / "a", b"x")
        (tmp_path / "b").write_bytes(b"x")
        assert os.umask(0o027) == 0o027, "the process's umask was changed"
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    (private := tmp_path / "key.onnx").write_bytes(b"old")
    private.chmod(0o600)
    files.write_atomic(private, b"new")
    assert (private.read_bytes(), private.stat().st_mode & 0o777) == (b"new", 0o600)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize(
    ("mode", "owner", "refused"), [(0o1777, 65534, True), (0o1777, 0, False), (0o755, 65534, False)]
)
def test_a_link_that_another_user_left_is_not_followed(tmp_path: Path, mode: int, owner: int, refused: bool) -> None:
    """As Linux does it where protected_symlinks is set: in a folder such as /tmp."""
    (shared := tmp_path / "shared").mkdir()
    shared.chmod(mode)
    (shared / "out").symlink_to(tmp_path / "target")
    os.lchown(shared / "out", owner, owner)
    if not refused:
        files.write_atomic(files.check_output(shared / "out"), b"x")
        return
    with pytest.raises(BadInput, match="out: is a link of another user's in a folder that all may write to"):
        files.check_output(shared / "out")
    assert not (tmp_path / "target").exists()


@pytest.fixture
def link(tmp_path: Path) -> Path:
    (tmp_path / "real").mkdir()
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "out").symlink_to(Path("..") / "real" / "target")
    return tmp_path / "links" / "out"


@pytest.mark.parametrize("there", [False, True], ids=["dangling", "live"])
def test_a_link_is_written_through(link: Path, there: bool) -> None:
    target = link.parent.parent / "real" / "target"
    if there:
        target.write_bytes(b"old")
        with pytest.raises(BadInput, match="out: exists already"):
            files.check_output(link)
    files.write_atomic(files.check_output(link, force=there), b"new")
    assert link.is_symlink()
    assert target.read_bytes() == link.read_bytes() == b"new"
    assert leftovers(link.parent) == ["out"]
    assert leftovers(target.parent) == ["target"]


def test_where_a_link_cannot_lead(link: Path) -> None:
    folder = link.parent
    (folder / "nowhere").symlink_to(folder / "none" / "target")
    with pytest.raises(BadInput, match="none: no such folder"):
        files.check_output(folder / "nowhere")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "null").symlink_to("/dev/null")
    (folder / "folder").symlink_to(folder)
    for name, why in {
        "circle": "leads to itself",
        "null": "not a regular file",
        "folder": "is a folder|regular",
    }.items():
        with pytest.raises(BadInput, match=f"{name}: is .*{why}|{name}: {why}"):
            files.check_output(folder / name, force=True)
        with pytest.raises(BadInput, match=name):
            files.write_atomic(folder / name, b"x")
    assert Path("/dev/null").is_char_device()


def test_an_error_in_between_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")

    def stopped() -> None:
        with files.replace_whole(target) as temporary:
            temporary.write_bytes(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        stopped()
    assert target.read_bytes() == b"old"
    assert leftovers(tmp_path) == ["out.bin"]


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    """Stand-in for a full disk: the kernel refuses to let a file of this process grow beyond 1 MB."""
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from runtimes import files\nfrom runtimes.base import BadInput\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
        "try:\n    files.write_atomic(Path(sys.argv[1]), b'x' * 2**22)\nexcept BadInput as error:\n    print(error)\n"
    )
    if not hasattr(signal, "SIGXFSZ"):
        pytest.skip("no file size limits on this system")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert "out: cannot be written" in done.stdout
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_kill_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom runtimes import files\n"
        "with files.replace_whole(Path(sys.argv[1])) as t:\n    t.write_bytes(b'half')\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.kill()
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "out").exists()


def test_missing_folder_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be written"):
        files.write_atomic(tmp_path / "no" / "out", b"x")


def test_check_output_accepts_a_new_name_and_with_force_an_old_one(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"x")
    assert files.check_output(tmp_path / "new") == tmp_path / "new"
    assert files.check_output(old, force=True) == old


def refused_outputs(folder: Path) -> list[tuple[Path, bool, str]]:
    (folder / "old").write_bytes(b"x")
    os.mkfifo(folder / "pipe")
    return [
        (folder / "old", False, "old: exists already; give another name or --force"),
        (folder, True, "is a folder"),  # --force must not remove a folder
        (folder / "pipe", True, "not a regular file"),
        (folder / "no" / "out", False, "no such folder"),
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_check_output_refuses_with_the_cause(tmp_path: Path) -> None:
    for path, force, message in refused_outputs(tmp_path):
        with pytest.raises(BadInput, match=message):
            files.check_output(path, force)


def test_check_output_in_an_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(BadInput, match="no permission to write"):
        files.check_output(tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_check_input_file_names_what_it_is_instead(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "big").write_bytes(b"x" * 11)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    cases = {
        tmp_path / "pipe": "pipe, socket or device",
        tmp_path / "s": "pipe, socket or device",
        Path(os.devnull): "pipe, socket or device",
        tmp_path / "empty": "is empty",
        tmp_path / "big": "has 11 bytes, the limit is 10",
        tmp_path / "none": "no such file",
        tmp_path: "is a folder",
        tmp_path / "loop": "cannot be read",
        tmp_path / ("n" * 300): "cannot be read",
        Path("nul\0byte"): "cannot be read|no such file",
    }
    begin = time.monotonic()
    for path, message in cases.items():
        with pytest.raises(BadInput, match=message):
            files.check_input_file(path, 10)
    server.close()
    assert time.monotonic() - begin < 5, "opening a named pipe waits for ever"


def test_check_input_file_gives_the_path_back(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * 10)
    assert files.check_input_file(path, 10) == path
