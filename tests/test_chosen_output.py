"""Of several outputs one counts: by `--answer`, by an attribute, or by a stated task, and what was left out is told."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from edgecnn import road
from edgecnn.checking.compare import check
from edgecnn.checking.diff import diff
from edgecnn.choosing.model_identity import of_unused
from edgecnn.cli import main
from edgecnn.evaluation.evaluate import evaluate
from edgecnn.networks.chosen_output import chosen, parts_of, picking
from edgecnn.networks.sources import resolve
from edgecnn.networks.weights import load_weights
from edgecnn.numbers.inspect import inspect
from edgecnn.prediction.predict import run, verify
from edgecnn.training.train import train
from exported import normal
from exporters.graph import MODULE_KEY, get_meta
from exporters.load import load_model
from runtimes.base import BadInput
from runtimes.bundle import open_bundle
from runtimes.execution.feeds import TensorInfo

HERE = f"{__file__}"
SIDE = 16


class Both(nn.Module):
    """A map for each pixel, and a deep one with a head of its own, as deep supervision has it."""

    input_shape = (3, SIDE, SIDE)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.out, self.aux = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.body(x).relu()
        return self.aux(self.deep(x)), self.out(x)


class Tagged(Both):
    task = "segmentation"

    def forward(self, x: torch.Tensor) -> Any:
        aux, out = super().forward(x)
        return {"aux": aux, "out": out}


class Named(Tagged):
    answer = "aux"


class Deep(Both):
    task, answer = "segmentation", 1


class Volume(nn.Module):
    task, input_shape = "segmentation", (1, 4, 6, 6)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Scores(Both):
    """One tensor, no map, beside a detail of it."""

    task = "segmentation"

    def forward(self, x: torch.Tensor) -> Any:
        aux, out = super().forward(x)
        return out.mean((2, 3)), aux.mean((1, 2, 3))


class One(Both):
    answer, task = "out", "segmentation"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[1]


class Alone(Both):
    task = "segmentation"

    def forward(self, x: torch.Tensor) -> Any:
        return (super().forward(x)[1],)


class Nested(Both):
    def forward(self, x: torch.Tensor) -> Any:
        aux, out = super().forward(x)
        return out, [aux]


class Boxless(Both):
    task = "detection"

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x)[1].mean((2, 3))


def of(kind: type[nn.Module]) -> str:
    return f"{HERE}:{kind.__name__}"


@pytest.fixture
def masked(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "seen" / part).mkdir(parents=True)
    for i in range(10):
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(tmp_path / f"seen/images/{i}.png")
        Image.fromarray(rng.integers(0, 2, (SIDE, SIDE), np.uint8)).save(tmp_path / f"seen/masks/{i}.png")
    return str(tmp_path / "seen")


def test_one_output_is_exported_and_nothing_that_only_the_others_need(tmp_path: Path) -> None:
    whole = road.export(of(Both), tmp_path / "whole.onnx")
    assert not any("left out" in line for line in whole.warnings)  # no task is stated: both outputs stay
    road.export(of(Both), tmp_path / "one.onnx", answer=1)
    both, one = (load_model(tmp_path / name) for name in ("whole.onnx", "one.onnx"))
    assert [value.name for value in both.graph.output] == ["output_0", "output_1"]
    assert [value.name for value in one.graph.output] == ["output"]
    modules = [{get_meta(node)[MODULE_KEY] for node in model.graph.node} for model in (both, one)]
    assert {"aux", "deep.0"} <= modules[0]
    assert modules[1] - {""} == {"body", "out"}
    assert {value.name for value in one.graph.initializer} == {"body.weight", "body.bias", "out.weight", "out.bias"}


def test_a_stated_task_takes_the_output_that_is_called_out_and_says_so(tmp_path: Path, masked: str) -> None:
    line = (
        f"{of(Tagged)}: answers with aux and out; for segmentation out is kept and aux left out; "
        "--answer NAME says otherwise"
    )
    network = resolve(of(Tagged))
    assert (network.task, network.classes, network.said) == ("segmentation", 2, line)
    heard: list[str] = []
    built = road.build(
        of(Tagged), tmp_path / "n.edge", calib=masked, data=masked, search_budget=0, max_drop=1, tell=heard.append
    )
    assert line in heard
    assert line in built.warnings
    assert not any("cannot be used" in warning for warning in built.warnings)
    bundle = open_bundle(tmp_path / "n.edge")
    assert (bundle.task, bundle.manifest["output"]["name"]) == ("segmentation", "logits")
    assert verify(tmp_path / "n.edge").passed
    (mask,) = run(tmp_path / "n.edge", f"{masked}/images/0.png").masks
    assert mask.mask.shape == (SIDE, SIDE)


def test_without_a_name_that_is_known_the_first_that_fits_is_taken() -> None:
    maps, scores, whole = torch.zeros(1, 2, 4, 4), torch.zeros(1, 5), torch.zeros(1, 4, 4, dtype=torch.int64)
    assert chosen("segmentation", {"x": scores, "deep": maps, "main": maps}) == "deep"
    assert chosen("segmentation", {"y": maps, "logits": maps}) == "logits"
    assert chosen("segmentation", {"deep": torch.zeros(1, 2, 2, 2), "main": maps, "more": maps}, (4, 4)) == "main"
    assert chosen("segmentation", {"deep": maps, "last": torch.zeros(1, 8, 8, 2)}, (8, 8)) == "last"
    assert chosen("segmentation", {"x": scores, "mask": whole}) == "mask"
    assert chosen("classification", {"out": maps, "x": scores, "y": scores}) == "x"
    assert chosen("multi-label", parts_of((maps, scores))) == "1"
    assert chosen("classification", {"x": [scores], "y": whole}) is None
    assert chosen("regression", {"x": scores, "y": scores}) is None  # it has all numbers


@pytest.mark.parametrize(("kind", "kept"), [(Named, (1, 2, 8, 8)), (Deep, (1, 2, SIDE, SIDE))])
def test_code_names_its_output_by_key_or_place(kind: type[nn.Module], kept: tuple[int, ...]) -> None:
    network = resolve(of(kind))
    made = network.answer(network.made(1, np.random.default_rng(0)))
    assert tuple(made.shape) == kept
    assert network.said == ""
    assert resolve(of(kind), answer="out" if kind is Named else "0").module is not network.module


def test_the_user_goes_before_the_code() -> None:
    network = resolve(of(Named), answer="out")
    made = network.answer(network.made(1, np.random.default_rng(0)))
    assert tuple(made.shape) == (1, 2, SIDE, SIDE)


def test_an_attribute_of_a_network_with_one_output_says_nothing() -> None:
    assert resolve(of(One)).task == "segmentation"


def test_a_tuple_of_one_is_opened_without_a_word() -> None:
    network = resolve(of(Alone))
    assert (network.task, network.classes, network.said) == ("segmentation", 2, "")


def test_inspect_tells_the_chosen_output() -> None:
    assert [info.shape for info in inspect(of(Both), answer=1).outputs] == [("batch", 2, SIDE, SIDE)]
    assert len(inspect(of(Both)).outputs) == 2


def test_a_task_that_is_asked_for_chooses_as_one_that_is_stated() -> None:
    assert resolve(of(Both)).said == ""
    assert resolve(of(Both)).task == "other"
    asked = resolve(of(Both), task="segmentation")
    assert asked.task == "segmentation"
    assert "answers with 0 and 1; for segmentation 1 is kept and 0 left out" in asked.said


@pytest.mark.parametrize(
    ("kind", "answer", "line"),
    [
        (Tagged, "uot", r"^--answer uot: uot: unknown output; did you mean out\?$"),
        (Both, "2", r"^--answer 2: 2: unknown output; known: 0, 1$"),
        (One, "0", r"^--answer 0: the network has one output; leave it out$"),
        (Nested, "1", r"^--answer 1: is a list, not one tensor; choose among 0$"),
    ],
)
def test_an_output_that_is_not_there_is_refused(kind: type[nn.Module], answer: str, line: str) -> None:
    with pytest.raises(BadInput, match=line):
        resolve(of(kind), answer=answer)


def test_an_attribute_that_names_no_output_says_where_it_stands() -> None:
    class Wrong(Tagged):
        answer = "uot"

    with pytest.raises(BadInput, match=r"^Wrong\.answer uot: uot: unknown output; did you mean out\?$"):
        resolve(Wrong())


def test_a_task_that_cannot_be_used_is_told() -> None:
    volume = resolve(of(Volume))
    assert volume.task == "other"
    assert volume.said == (
        f"{of(Volume)}: its task segmentation is not used for volumes: it answers with (N, 2, 4, 6, 6), and maps of "
        "classes are (N, classes, height, width); its answers stay numbers"
    )
    several = resolve(of(Scores))
    assert several.task == "other"
    assert "its task segmentation is not used: it answers with (N, 2) and (N), and maps of classes are" in several.said
    assert (
        "its task detection is not used: it answers with (N, 2), and detections are boxes" in resolve(of(Boxless)).said
    )
    rows = resolve(of(Boxless), task="segmentation")
    assert rows.task == "other"
    assert "its task segmentation is not used: it answers with (N, 2), and maps of classes are" in rows.said


def test_masks_that_cannot_judge_volumes_have_no_hint_that_leads_in_a_circle() -> None:
    material: Any = SimpleNamespace(
        unused="they are masks, and answers are of no known task", judged=SimpleNamespace(name="d")
    )
    volumes, maps = (TensorInfo("y", "float32", ("N", *sizes)) for sizes in ((2, 4, 6, 6), (2, 6, 6)))
    assert of_unused("m", material, [volumes]).endswith("of no known task")
    assert of_unused("m", material, [volumes, maps]).endswith("makes maps of (N, classes, H, W) classes")


def test_the_given_module_and_the_names_of_its_weights_stay() -> None:
    module, x = Tagged().eval(), torch.from_numpy(normal(1, 3, SIDE, SIDE))
    seen: list[int] = []
    module.register_forward_hook(lambda *_: seen.append(1))
    made = picking(module, "out")
    assert torch.equal(made(x), module(x)["out"])
    assert seen == [1, 1]  # its own hooks go on
    assert set(module(x)) == {"aux", "out"}
    assert list(made.state_dict()) == list(module.state_dict())
    assert [name for name, _ in made.named_modules()] == [name for name, _ in module.named_modules()]
    assert type(made) is Tagged
    assert torch.equal(copy.deepcopy(made)(x), made(x))
    assert isinstance(module, nn.Module)
    assert resolve(module).module is not module


def test_models_are_compared_and_scored_on_the_chosen_output(tmp_path: Path, masked: str) -> None:
    road.export(of(Tagged), tmp_path / "aux.onnx", answer="aux")
    assert check(of(Tagged), tmp_path / "aux.onnx", answer="aux").passed
    assert diff(of(Tagged), tmp_path / "aux.onnx", answer="aux").first is None
    chosen_by_task = evaluate(of(Tagged), data=masked)
    told = evaluate(of(Both), data=masked, task="segmentation", answer=1)
    assert chosen_by_task.models[0][1].value == told.models[0][1].value
    assert any("aux left out" in line for line in chosen_by_task.warnings)
    assert not any("left out" in line for line in told.warnings)
    assert "answers with 0 and 1" in "".join(evaluate(of(Both), data=masked, task="segmentation").warnings)


def test_an_output_of_a_file_is_not_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(onnx.parser.parse_model('<ir_version: 9, opset_import: ["" : 20]> g (float[N, 2] x) => (float[N, 2] y)'
                                      " { y = Relu (x) }"), tmp_path / "m.onnx")  # fmt: skip
    path = str(tmp_path / "m.onnx")
    for words in (
        ["evaluate", path, "--data", "digits"],
        ["check", path, path],
        ["diff", path, path],
        ["inspect", path],
    ):
        assert main([*words, "--answer", "out"]) == 2
        line = "error: --answer out: no model is a PyTorch network; export it with --answer\n"
        assert capsys.readouterr().err == line


def test_a_chosen_output_is_learned(tmp_path: Path, masked: str) -> None:
    with pytest.raises(BadInput, match=r"answers tuple, but .* has 3 classes; --answer NAME learns one of 0 and 1$"):
        train(of(Both), "shapes:20", tmp_path / "n.safetensors", epochs=1)
    report = train(of(Both), masked, tmp_path / "w.safetensors", epochs=1, task="segmentation", answer=1, batch=4)
    state, _ = load_weights(tmp_path / "w.safetensors")
    assert set(state) == set(Both().state_dict())
    assert report.task == "segmentation"
    fresh = Both().state_dict()
    assert not torch.equal(state["out.weight"], fresh["out.weight"])
    assert torch.equal(state["aux.weight"], fresh["aux.weight"])  # nothing is learned there
    stated = train(of(Tagged), masked, tmp_path / "t.safetensors", epochs=1, batch=4)
    assert any("aux left out" in line for line in stated.warnings)
