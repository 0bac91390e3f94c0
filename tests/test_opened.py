"""Files and networks are told apart by their names first, by their first bytes second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecnn.cli import main
from edgecnn.opened import check_model_output, read_model
from runtimes.base import BadInput
from runtimes.execution.model_file import is_bundle, is_model_file, model_of, open_any
from small_nets import conv_net, save


@pytest.mark.parametrize(
    ("source", "is_file"),
    [("resnet18", False), ("nets.py:Net", False), ("torchvision:resnet18", False), ("a.onnx", True), ("A.ONNX", True),
     ("b.edge", True), ("there", True), ("nets.py", False), (".", False)],
)  # fmt: skip
def test_what_is_a_file(source: str, is_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("there", "nets.py"):
        (tmp_path / name).write_bytes(b"x")
    assert is_model_file(source) is is_file


def test_a_file_without_a_suffix_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    net = conv_net()
    path = save(net, tmp_path / "model")
    assert not is_bundle(path)
    assert open_any(path).inputs[0].name == "x"
    assert model_of(path) == path
    assert read_model(path) == (net, path.stat().st_size)
    (tmp_path / "zip").write_bytes(b"PK\x03\x04junk")
    assert is_bundle(tmp_path / "zip")
    with pytest.raises(BadInput, match="is not a whole zip file"):
        open_any(tmp_path / "zip")


def test_the_name_counts_before_the_bytes(tmp_path: Path) -> None:
    """A damaged bundle is reported as one, and a model that begins like a zip file as a model."""
    (tmp_path / "net.edge").write_bytes(b"hello")
    assert is_bundle(tmp_path / "net.edge")
    (tmp_path / "net.onnx").write_bytes(b"PK\x03\x04")
    assert not is_bundle(tmp_path / "net.onnx")


def test_a_picture_is_told_from_a_model(tmp_path: Path) -> None:
    (tmp_path / "00.jpg").write_bytes(b"anything")
    with pytest.raises(BadInput, match=r"00\.jpg: is a picture, not a model; give an .onnx file or a bundle"):
        is_bundle(tmp_path / "00.jpg")


@pytest.mark.parametrize("words", [["fold"], ["simplify"], ["quantize", "--calib", "random:2"], ["half"]])
def test_no_command_writes_over_its_input_or_another_kind_of_file(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(conv_net(), tmp_path / "net.onnx")
    (tmp_path / "link.onnx").symlink_to(path)
    before = path.read_bytes()
    for output in (path, tmp_path / "link.onnx", tmp_path / "x" / ".." / "net.onnx"):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert main([*words, str(path), "-o", str(output), "--force"]) == 2
        assert capsys.readouterr().err == f"error: {output}: is the input itself; give another name\n"
    assert main([*words, str(path), "-o", str(tmp_path / "out.txt")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/out.txt: is no ONNX file's name; end it with .onnx\n"
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.onnx", "net.onnx", "x"]


@pytest.mark.parametrize(
    ("words", "refused", "what"),
    [
        ("bench net.onnx --csv net.onnx", "net.onnx", "is the input itself"),
        ("bench net.onnx --csv link.csv", "link.csv", "is the input itself"),
        ("bench net.onnx --csv hard.csv", "hard.csv", "is the input itself"),
        ("bench net.onnx torch:nets.py:Net --csv nets.py", "nets.py", "is the input itself"),
        ("bench net.onnx --threads 1 --baseline base.json --csv base.json", "base.json", "is the input itself"),
        ("bench net.onnx --csv new.svg --plot x/../new.svg", "x/../new.svg", "is given for two outputs"),
        ("profile net.onnx --csv net.onnx", "net.onnx", "is the input itself"),
        ("profile net.onnx --against a.portable.onnx --plot link.svg", "link.svg", "is the input itself"),
        ("profile net.onnx --csv new.svg --plot new.svg", "new.svg", "is given for two outputs"),
        ("quantize a.portable.onnx --calib random:2 -o a.onnx --portable", "a.portable.onnx", "is the input itself"),
        ("diff net.onnx a.portable.onnx --plot new.svg -o new.svg", "new.svg", "is given for two outputs"),
        ("diff net.onnx a.portable.onnx --plot link.svg", "link.svg", "is the input itself"),
    ],
)
def test_no_output_is_an_input_or_given_twice(
    words: str, refused: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    for name in ("net.onnx", "a.portable.onnx"):
        save(conv_net(), tmp_path / name)
    Path("nets.py").write_text("from torch.nn import ReLU as Net\n")
    row = {"model": "net.onnx", "provider": "cpu", "batch": 1, "threads": 1, "p50_ms": 1.0}
    Path("base.json").write_text(json.dumps({"models": [row], "ratios": []}))
    Path("link.csv").symlink_to("net.onnx")
    Path("link.svg").symlink_to("a.portable.onnx")
    Path("hard.csv").hardlink_to("net.onnx")
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    assert main([*words.split(), "--force"]) == 2
    assert capsys.readouterr().err == f"error: {refused}: {what}; give another name\n"
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def test_export_writes_onnx_files_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "lenet5", "-o", str(tmp_path / "x.txt")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/x.txt: is no ONNX file's name; end it with .onnx\n"


def test_any_case_of_the_suffix_will_do(tmp_path: Path) -> None:
    assert check_model_output(tmp_path / "A.ONNX") == tmp_path / "A.ONNX"
