"""What would do nothing is told: refused where it must be a mistake, a warning where a script may give it to all."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from torch import nn

from edgecnn import api
from edgecnn.choosing.evidence import unraced
from edgecnn.choosing.keeper import Aimed
from edgecnn.cli import main
from edgecnn.cli._click import group
from edgecnn.data.feeding import within
from edgecnn.detection.raw import Head
from edgecnn.idle import IDLE, refuse_idle
from exporters.pack import pack
from runtimes.base import BadInput
from runtimes.bundle import open_bundle
from runtimes.proof.prediction import How, idle
from runtimes.session import open_session
from small_nets import conv_net, save

CUDA, TENSORRT = {"provider": "cuda"}, {"target": "tensorrt"}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("bench", {"tolerance": 0.2}, {}, {"baseline": "b.json"}),
    *(("build", given, CUDA, {"provider": "cpu"}) for given in (
        {"target": "avx2"}, {"portable": True}, {"input": "uint8"}, {"dynamic_size": True}, {"all_int8": True},
        {"keep_float": True}, {"calibrator": "percentile"}, {"allow_slower": True}, {"search_budget": 5.0})),
    ("build", {"search_budget": 5.0}, {"provider": "cuda:use_tf32=1"}, {"search_budget": 0.0}),
    ("check", {"skip_unreadable": True}, {}, {"data": "digits"}),
    ("decode", {"iou": 0.2}, {"head": "yolov10"}, {"head": "yolov8"}),
    ("decode", {"best_class": True}, {"head": "yolo26"}, {"head": "yolov5"}),
    ("diff", {"skip_unreadable": True}, {}, {"data": "digits"}),
    ("evaluate", {"labels": "l.txt"}, {"metric": "m.py:f"}, {"metric": None}),
    ("export", {"provider": "cuda"}, {}, {"fp16": True}),
    ("export", {"allow_slower": True}, {}, {"fp16": True}),
    *(("quantize", given, TENSORRT, {"target": "arm"}) for given in (
        {"search_budget": 3.0}, {"allow_slower": True}, {"all_int8": True})),
    ("train", {"resume": True}, {"qat": True, "weights": "w.safetensors"}, {"weights": None}),
]  # fmt: skip
"""(call, what does nothing, beside what, beside what it does something)."""


def needed(call: str) -> dict[str, str]:
    """A name that no file has for each argument that the command must be given."""
    command = group.get_command(click.Context(group), call)
    assert command is not None
    names = (str(param.name) for param in command.params if param.required)
    return {name: "digits" if name in ("data", "calib") else "none" for name in names}


def spelled(call: str, arguments: dict[str, Any]) -> list[str]:
    """`arguments` as words of the command `call`."""
    command = group.get_command(click.Context(group), call)
    assert command is not None
    words = [call]
    for param in command.params:
        if param.name not in arguments:
            continue
        value = arguments[param.name]
        shown = [] if getattr(param, "is_flag", False) else [str(value)]
        words += shown if isinstance(param, click.Argument) else [max(param.opts, key=len), *shown]
    return words


@pytest.mark.parametrize(("call", "given", "beside", "meant"), CASES)
def test_what_does_nothing_is_refused_by_the_call_and_the_command(
    call: str, given: dict[str, Any], beside: dict[str, Any], meant: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (name,), arguments = given, {**needed(call), **given, **beside}
    with pytest.raises(BadInput, match=f"^--{name.replace('_', '-')}: .*leave ") as caught:
        getattr(api, call)(**arguments)
    assert main(spelled(call, arguments)) == 2
    assert capsys.readouterr().err == f"error: {caught.value}\n"
    usual = {p.name: p.default for p in inspect.signature(getattr(api, call)).parameters.values()}
    refuse_idle(call, given, {**usual, **arguments, **meant})


def test_every_rule_has_a_case() -> None:
    rules = {(call, name) for call, rules in IDLE.items() for rule in rules for name in rule.names}
    assert rules == {(call, name) for call, given, *_ in CASES for name in given}


def test_only_what_was_given_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """A default that is written out is given on the command line, where somebody meant something by it."""
    for words in (["bench", "none.onnx"], ["export", "none.onnx", "-o", "x.onnx", "--provider", "cpu"]):
        assert main(words) == 2
        assert "none.onnx" in capsys.readouterr().err
    assert main(["bench", "none.onnx", "--tolerance", "0.05"]) == 2
    assert "--tolerance: is for what --baseline holds" in capsys.readouterr().err
    with pytest.raises(BadInput, match=r"^none\.onnx: "):
        api.bench("none.onnx", tolerance=0.05)
    with pytest.raises(BadInput, match=r"^none\.onnx: "):
        api.quantize("none.onnx", "x.onnx", "digits", target="tensorrt", search_budget=30)


def test_a_head_whose_boxes_are_chosen_takes_no_overlap() -> None:
    for setting in ("iou=0.3", "best_class=1"):
        with pytest.raises(BadInput, match=rf"^decode yolo26:{setting}: \w+ does nothing"):
            Head.of(f"yolo26:{setting}")
        assert Head.of(f"yolov8:{setting}").kind == "yolov8"
    assert Head.of({"head": "yolov10", "iou": 0.3}).kind == "yolov10"  # a network's own word for all of its settings


class Numbers(nn.Module):
    task, input_shape = "regression", (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 2)

    def forward(self, x: Any) -> Any:
        return self.layer(x.flatten(1))


def numbers(count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 1, 8, 8), np.float32), rng.standard_normal((count, 2), np.float32)


def test_training_smooths_no_numbers_and_no_boxes(tmp_path: Path) -> None:
    out, source = tmp_path / "w.safetensors", f"{__file__}:Numbers"
    with pytest.raises(BadInput, match=r"^--label-smoothing 0\.1: does nothing for regression, which"):
        api.train(source, numbers(), out, epochs=1, label_smoothing=0.1)
    with pytest.raises(BadInput, match=r"^--label-smoothing 0\.1: does nothing for detection, which"):
        api.train("ssd_tiny", "shapes:10", out, epochs=1, label_smoothing=0.1)
    with pytest.raises(BadInput, match=r"^Numbers: takes no num_classes"):
        api.train(source, numbers(), out, epochs=1, num_classes=3)
    assert not out.exists()
    api.train(source, numbers(), out, epochs=1, label_smoothing=0.0)  # that there is none is what was asked for


def test_a_batch_beside_a_fixed_one_is_told(tmp_path: Path) -> None:
    fixed = conv_net()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    fixed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    one, free = save(fixed, tmp_path / "one.onnx"), save(conv_net(), tmp_path / "free.onnx")
    rng = np.random.default_rng(0)
    data = rng.standard_normal((12, 3, 8, 8), np.float32), rng.integers(0, 10, 12)
    line = f"--batch 4: does nothing for {one}, which takes 1 image at a time"
    assert [w for w in api.evaluate(one, free, data=data, batch=4).warnings if "--batch" in w] == [line]
    for batch in (None, 1):
        assert not [w for w in api.evaluate(one, data=data, batch=batch).warnings if "--batch" in w]


def test_threads_of_pytorch_alone_are_told() -> None:
    line = "--threads 1: does nothing for PyTorch networks; set OMP_NUM_THREADS for those"
    assert line in api.check("lenet5", "lenet5", threads=1, limit=1).warnings
    assert line in api.diff("lenet5", "lenet5", threads=1, samples=1).warnings
    assert line in api.evaluate("lenet5", data="digits", limit=4, threads=1).warnings
    assert line not in api.check("lenet5", "lenet5", limit=1).warnings


def test_threads_of_a_race_elsewhere_are_told() -> None:
    assert unraced(Aimed("arm", here=False), 2).startswith("--threads 2: does nothing with --target arm")
    assert not unraced(Aimed("arm", here=False), 1)
    assert not unraced(Aimed("vnni", here=True), 2)


def test_classes_and_scores_that_a_bundle_has_not_are_told(tmp_path: Path) -> None:
    path, net = tmp_path / "net.edge", conv_net()
    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    about = {
        "name": "made", "task": "classification", "labels": [], "preprocess": None, "created_by": "edgecnn 0",
        "chosen": "float",
        "input": {"name": "x", "dtype": "float32", "shape": ["N", 3, 8, 8]},
        "output": {"name": "y", "dtype": "float32", "shape": ["N", 10]},
    }  # fmt: skip
    pack(path, net, about, [images], [open_session(net)({"x": images})["y"]], 0.0)
    boxes = f"--min-score 0.5: does nothing, for {path} answers with no boxes"
    assert api.run(path, images, min_score=0.5, top=3).warnings == (boxes,)
    assert api.load(path).run(images, min_score=0.5).warnings == (boxes,)
    assert api.run(path, images).warnings == ()
    bundle = open_bundle(path)
    found = {"detection": "classes", "segmentation": "classes boxes", "multi-label": "classes boxes"}
    for task, missing in found.items():
        other = replace(bundle, manifest={**bundle.manifest, "task": task})
        lines = idle(other, How(top=2, min_score=0.5), "n.edge")
        assert [line.rpartition(" ")[2] for line in lines] == missing.split()
        assert not idle(other, How(), "n.edge")


@pytest.mark.parametrize(
    ("limit", "batch", "images"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (1, 2, 1), (8, 1, 8), (9, 2, 9)]
)
def test_a_limit_holds_for_made_inputs_too(limit: int, batch: int, images: int, tmp_path: Path) -> None:
    path = save(conv_net(), tmp_path / "net.onnx")
    report = api.check(path, path, limit=limit, batch=batch)
    assert report.parity.images == images <= limit
    assert (len(report.sizes) > 1) == (images > 4)


def test_without_a_limit_other_sizes_come_on_top() -> None:
    feeds, others = [{"x": np.zeros((1, 2))}] * 8, [{"x": np.zeros((3, 2))}]
    assert within(None, feeds, others) == (feeds, others)
    assert tuple(map(len, within(8, feeds, others))) == (5, 1)
    assert tuple(map(len, within(3, feeds, others))) == (3, 0)


def test_nothing_to_blame_and_nothing_to_freeze_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = save(conv_net(), tmp_path / "net.onnx"), tmp_path / "layer"
    assert f"{folder}: not made, for no layer is to blame" in api.diff(path, path, reproducer=folder).notes
    assert main(["simplify", str(path), "-o", str(tmp_path / "s.onnx"), "--freeze"]) == 0
    assert "; nothing to freeze" in capsys.readouterr().out.replace("\n", " ")


def test_all_nodes_of_a_pytorch_network_run_nowhere(tmp_path: Path) -> None:
    path = save(conv_net(), tmp_path / "net.onnx")
    with pytest.raises(BadInput, match=r"^--require-all: lenet5 is a PyTorch network"):
        api.check(path, "lenet5", require_all=True)
