"""What a network's maps are: said by it, by the masks in the data, or told to be numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn import doubts
from edgecnn.choosing.model_identity import task_of
from edgecnn.choosing.quantizing import quantize
from edgecnn.networks.sources import resolve
from edgecnn.prediction.predict import run
from edgecnn.road import named
from small_nets import model as onnx_model

NET = """
from torch import nn
class Net(nn.Sequential):
    input_shape = (3, 8, 12)
    ATTRIBUTES
    def __init__(self):
        super().__init__(nn.Conv2d(3, MAPS, 3, padding=1)LAST)
"""
CLASSES = 5


def source(folder: Path, attributes: str = "pass", maps: int = CLASSES, last: str = "") -> str:
    path = folder / "nets.py"
    path.write_text(NET.replace("ATTRIBUTES", attributes).replace("MAPS", str(maps)).replace("LAST", last))
    return f"{path}:Net"


@pytest.fixture
def masked(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    pictures, masks = rng.integers(0, 255, (4, 8, 12, 3)), rng.integers(0, CLASSES, (4, 8, 12))
    np.savez(tmp_path / "masked.npz", x=pictures.astype(np.uint8), masks=masks.astype(np.uint8))
    np.savez(tmp_path / "plain.npz", x=pictures.astype(np.uint8))
    return str(tmp_path / "masked.npz")


def test_masks_in_the_data_make_maps_classes(tmp_path: Path, masked: str) -> None:
    where = source(tmp_path)
    network, heard = named(resolve(where), masked, masked)
    assert (network.task, network.classes) == ("segmentation", CLASSES)
    (line,) = [line for line in heard if "task" in line]
    assert line.startswith(
        f"{where}: does not say its task and answers with maps of 5 channels: segmentation is assumed"
    )


def test_without_masks_maps_are_numbers_and_that_is_told(tmp_path: Path, masked: str) -> None:
    plain = masked.replace("masked", "plain")
    for data in (None, plain):
        network, heard = named(resolve(source(tmp_path)), plain, data)
        assert (network.task, network.classes) == ("other", None)
        assert any("they are compared as numbers, and `run` cannot show them" in line for line in heard)


@pytest.mark.parametrize(
    ("attributes", "maps", "last", "found"),
    [
        ("task = 'segmentation'", CLASSES, "", None),  # it says so
        ("pass", 3, "", 3),
        ("pass", 1, "", 1),  # of two classes where the data has masks of these
        ("pass", CLASSES, ", nn.MaxPool2d(2)", None),  # not of the picture's size
        ("pass", CLASSES, ", nn.Flatten()", None),  # scores
    ],
)
def test_other_answers_are_left_alone(
    tmp_path: Path, masked: str, attributes: str, maps: int, last: str, found: int | None
) -> None:
    network = resolve(source(tmp_path, attributes, maps, last))
    assert network.maps == found
    both = "--task segmentation makes them classes, --task image a picture"
    assert (both in doubts.of_task(network)) == (found is not None)
    if maps == 1:
        masks = np.load(masked)["masks"]
        np.savez(tmp_path / "two.npz", x=np.load(masked)["x"], masks=masks % 2)
        for data, task in ((masked, "other"), (str(tmp_path / "two.npz"), "segmentation")):
            assert named(network, data, data)[0].task == task


@pytest.mark.parametrize(
    ("out", "binary", "task"),
    [
        ("N,5,8,8", False, "segmentation"),
        ("N,5,8,8", None, "other"),
        ("N,8,8,5", False, "segmentation"),
        ("N,1,8,8", False, "other"),
        ("N,8,8,1", False, "other"),
        ("N,1,8,8", True, "segmentation"),
        ("N,8,8,1", True, "segmentation"),
        ("N,1,8,8", None, "other"),
        ("N,5", False, "classification"),
        ("N", None, "classification"),
        ("N,5,8", False, "other"),
    ],
)
def test_what_an_onnx_file_is_judged_by(out: str, binary: bool | None, task: str) -> None:
    made: onnx.ModelProto = onnx_model(
        f'<ir_version: 9, opset_import: ["" : 18]> g (float[{out}] x) => (float[{out}] y) {{ y = Relu (x) }}'
    )
    assert task_of(None, made, binary) == task


@pytest.mark.parametrize(("rank", "last", "used"), [(2, ".mean(2)", True), (1, "[:, 0, 0]", True), (3, "", False)])
def test_labels_are_one_row_for_each_sample(tmp_path: Path, rank: int, last: str, used: bool) -> None:
    """Tags of every frame, (N, labels, frames), are none of a clip, which `run` and the metric read."""
    (tmp_path / "nets.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    input_shape, task = (8, 50), 'multi-label'\n"
        "    def __init__(self):\n        super().__init__()\n        self.conv = nn.Conv1d(8, 5, 3, padding=1)\n"
        f"    def forward(self, x):\n        return self.conv(x){last}\n"
    )
    where = f"{tmp_path / 'nets.py'}:Net"
    network = resolve(where)
    line = (
        f"{where}: its task multi-label is not used: it answers with (N, 5, 50), and labels are (N, labels); "
        "its answers stay numbers"
    )
    assert (network.task, network.said) == (("multi-label", "") if used else ("other", line))


@pytest.mark.parametrize("task", ["multi-label", "classification"])
def test_a_file_whose_answers_are_no_rows_of_scores_is_not_for_such_a_task(tmp_path: Path, task: str) -> None:
    made = onnx_model(
        '<ir_version: 9, opset_import: ["" : 18]> g (float[N,8,50] x) => (float[N,5,50] y) { y = Conv (x, w) }',
        w=np.random.default_rng(0).normal(size=(5, 8, 1)).astype(np.float32),
    )
    onnx.save(made, tmp_path / "net.onnx")
    clips = np.random.default_rng(1).normal(size=(40, 8, 50)).astype(np.float32)
    report = quantize(tmp_path / "net.onnx", tmp_path / "q.edge", clips, task=task, search_budget=0.0)
    assert any(f"its task {task} is not used: it answers with (N, 5, 50)" in line for line in report.warnings)
    (answer,) = run(str(tmp_path / "q.edge"), [clips[0]]).numbers
    assert next(iter(answer.arrays.values())).shape == (5, 50)


@pytest.mark.parametrize("task", ["segmentation", "detection", "image"])
def test_rows_of_scores_are_no_maps_and_no_boxes(tmp_path: Path, task: str) -> None:
    made = onnx_model(
        '<ir_version: 9, opset_import: ["" : 18]> g (float[N,48] x) => (float[N,5] y) { y = MatMul (x, w) }',
        w=np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32),
    )
    onnx.save(made, tmp_path / "net.onnx")
    rows = np.random.default_rng(1).normal(size=(40, 48)).astype(np.float32)
    report = quantize(tmp_path / "net.onnx", tmp_path / "q.onnx", rows, task=task, search_budget=0.0)
    assert any(f"net.onnx: its task {task} is not used: it answers with (N, 5)" in line for line in report.warnings)
