"""What forward takes: several inputs by name, from the module's own word or the user's, exported and held to torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgecnn import api, stages
from edgecnn.cli import main
from edgecnn.latency.job import Job
from edgecnn.latency.torch_racer import TorchRacer
from edgecnn.networks.forward import InputShape, asked_shapes, parameters
from edgecnn.networks.network import Network
from edgecnn.networks.sources import resolve
from exporters.torch_export import export_module
from runtimes.base import Array, BadInput
from runtimes.session import Session, open_session


class Apart(nn.Module):
    """Two pictures and a few numbers; the answer is another where the pictures change places."""

    input_shapes: ClassVar[Any] = {"meta": (4,), "right": (3, 16, 16), "left": (3, 16, 16)}

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.fc = nn.Linear(12, 5)

    def forward(self, left: Any, right: Any, scale: Any = None, *, meta: Any) -> dict[str, Any]:
        near, far = (self.body(picture).mean((2, 3)) for picture in (left, right))
        moved = 2 * near - far if scale is None else near * scale
        return {"scores": self.fc(torch.cat([moved, meta], 1)), "gap": (near - far).abs()}


class One(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, picture: Any, mask: Any = None) -> Any:
        found = self.conv(picture if mask is None else picture * mask)
        return found.mean((2, 3)) * self.gain


def said(net: nn.Module, **values: Any) -> nn.Module:
    """`net` whose code says `values`."""
    for name, value in values.items():
        setattr(net, name, value)
    return net


def feeds(count: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {"left": (3, 16, 16), "right": (3, 16, 16), "meta": (4,)}
    return {name: rng.standard_normal((count, *shape), np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    net = Apart()
    with torch.no_grad():
        net.body[1].running_mean.copy_(torch.randn(8))
    return resolve(net)


@pytest.fixture(scope="module")
def exported(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apart") / "apart.onnx"
    report = api.export(network.module, path)
    assert min(stage.snr_db or 0 for stage in report.stages) > 90
    assert {stage.name: stage for stage in report.stages}["fold_batchnorm"].note == "2 changed"
    return path


@pytest.fixture(scope="module")
def session(exported: Path) -> Session:
    return open_session(exported.read_bytes())


# -------------------------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("given", "plain", "named"),
    [
        (None, None, {}),
        ("3,8,8", (3, 8, 8), {}),
        ((1, 3, 8, 8), (3, 8, 8), {}),
        ([1, 8, 8], (1, 8, 8), {}),
        (["a:3,8,8", "b:[4]"], None, {"a": (3, 8, 8), "b": (4,)}),
        (("1,3,8,8", "b:4"), (3, 8, 8), {"b": (4,)}),
        ({"a": (3, 8, 8), "b": [4]}, None, {"a": (3, 8, 8), "b": (4,)}),
    ],
)
def test_shapes_as_users_write_them(
    given: InputShape | None, plain: tuple[int, ...] | None, named: dict[str, tuple[int, ...]]
) -> None:
    assert asked_shapes(given, One()) == (plain, named)


def test_inputs_are_in_the_order_of_forward_whoever_says_their_shapes(network: Network) -> None:
    assert [(i.name, i.shape[1:]) for i in network.inputs] == [
        ("left", (3, 16, 16)),
        ("right", (3, 16, 16)),
        ("meta", (4,)),
    ]
    assert parameters(network.module) == {"left": True, "right": True, "scale": False, "meta": True}
    other = resolve(Apart(), input_shape=("scale:8", "left:3,20,20"))  # one of forward's that may be left out
    assert {i.name: i.shape[1:] for i in other.inputs} == {
        "left": (3, 20, 20), "right": (3, 16, 16), "scale": (8,), "meta": (4,),
    }  # fmt: skip
    assert (other.preprocess, other.input_shape) == (None, (3, 20, 20))
    shapes: InputShape = {"meta": (4,), "left": (3, 9, 9), "right": (3, 9, 9)}
    assert resolve(said(Apart(), input_shapes=None), input_shape=shapes).inputs[1].shape == ("batch", 3, 9, 9)


def test_one_input_in_a_dict_is_one_input() -> None:
    found = resolve(said(One(), input_shapes={"picture": (3, 8, 8)}))
    assert found.several is None
    assert (found.shapes, found.ready) == ((3, 8, 8), found.preprocess)
    assert resolve(One(), input_shape="x:3,9,9").input_shape == (3, 9, 9), "by whatever name"
    assert resolve(One(), input_shape={"picture": (3, 9, 9)}).input_shape == (3, 9, 9)


def test_the_nearest_that_says_shapes_counts(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ninput_shapes = {'a': (3, 8, 8), 'b': (3, 8, 8)}\n"
        "class Two(nn.Conv2d):\n    def __init__(self):\n        super().__init__(3, 2, 1)\n"
        "    def forward(self, a, b):\n        return super().forward(a - b).mean((2, 3))\n"
        "class Own(Two):\n    input_shapes = {'a': (3, 4, 4), 'b': (3, 4, 4)}\n"
        "class Plain(nn.Flatten):\n    input_shape = (3, 5, 5)\n"
    )
    place = f"{tmp_path / 'nets.py'}:"
    assert resolve(f"{place}Two").shapes == {"a": (3, 8, 8), "b": (3, 8, 8)}
    assert resolve(f"{place}Own").shapes == {"a": (3, 4, 4), "b": (3, 4, 4)}
    assert resolve(f"{place}Plain").shapes == (3, 5, 5)


def test_several_shapes_go_before_one_that_stands_beside_them() -> None:
    assert resolve(said(Apart(), input_shape=(3, 9, 9))).inputs[0].shape[1:] == (3, 16, 16)


GIVE = "give --input-shape right:SIZES --input-shape meta:SIZES, or `input_shapes` on it"


@pytest.mark.parametrize(
    ("net", "given", "words"),
    [
        (said(Apart(), input_shapes=None), None, "Apart: its forward takes left, right and meta; give --input-"),
        (said(Apart(), input_shapes=None), "left:3,8,8", f"Apart: its forward also takes right and meta; {GIVE}"),
        (Apart(), "metta:4", "Apart: forward: metta: unknown input; did you mean meta"),
        (Apart(), "3,8,8", "Apart: takes left, right and meta; say whose shape it is: --input-shape left:SIZES"),
        (Apart(), ("meta:4", "meta:5"), "--input-shape meta: is given twice; give one shape for each input"),
        (Apart(), "meta:5", r"Apart: does not run on left 1,3,16,16 .* meta 1,5 .*; mend it, or give other shapes"),
        (Apart(), {"meta": (0,)}, r"input shape \(0,\): out of range"),
        (said(Apart(), preprocess={"mean": [0.5]}), None, "Apart.preprocess: is for one picture, and meta, right"),
        (said(Apart(), decode="yolov8"), None, "Apart.decode: is for one picture, and left, right and meta are fed"),
        (One(), ("3,8,8", "3,8,8"), "a second shape, but the network has one input"),
        (One(), ("picture:3,8,8", "other:4"), "One: forward: other: unknown input; known: mask, picture"),
        (One(), "mask:3,8,8", "One: its forward also takes picture; give --input-shape picture:SIZES"),
    ],
)  # fmt: skip
def test_what_does_not_fit_forward_is_one_line(net: nn.Module, given: InputShape | None, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        resolve(net, input_shape=given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


class Words(nn.Module):
    """A picture and indices into an embedding, cast as users write it or not."""

    input_shapes: ClassVar = {"image": (3, 8, 8), "words": (4,)}

    def __init__(self, cast: bool) -> None:
        super().__init__()
        self.cast, self.conv, self.embedding = cast, nn.Conv2d(3, 8, 3), nn.Embedding(10, 8)

    def forward(self, image: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        found = self.embedding(words.long() - 20 if self.cast else words)
        return self.conv(image).mean((2, 3)) + found.mean(1)


@pytest.mark.parametrize("cast", [True, False])
def test_indices_cannot_be_fed(cast: bool) -> None:
    said = "Words: looks numbers up in an embedding; inputs are float32 and fed as they are, so that indices cannot be"
    with pytest.raises(BadInput, match=f"^{said} fed: take the embedding out, and feed the vectors that it gives$"):
        resolve(Words(cast))


class Loose(nn.Conv2d):
    def forward(self, *pictures: Any) -> Any:
        first, second = pictures
        return super().forward(first - second)


def test_inputs_that_forward_does_not_name() -> None:
    with pytest.raises(BadInput, match="Loose: does not run on 1,3,224,224"):
        resolve(Loose(3, 2, 1))
    with pytest.raises(BadInput, match="Loose: forward: a: unknown input"):
        resolve(Loose(3, 2, 1), input_shape={"a": (3, 8, 8), "b": (3, 8, 8)})


FORWARDS = {
    "by_name": ("*, image", "image", r"its forward takes image by name alone; write `forward\(self, image\)`$"),
    "deeper": ("x", "x, x", r"does not run on 1,3,8,8 at nets.py line 6 \(Conv2d.forward\(\) takes 2 positional"),
}


@pytest.mark.parametrize("case", FORWARDS)
def test_a_call_that_does_not_fit_is_told_where_it_is(case: str, tmp_path: Path) -> None:
    takes, gives, words = FORWARDS[case]
    (tmp_path / "nets.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__(); self.conv = nn.Conv2d(3, 4, 3)\n"
        f"    def forward(self, {takes}):\n        return self.conv({gives}).mean((2, 3))\n"
    )
    with pytest.raises(BadInput, match=words):
        resolve(f"{tmp_path}/nets.py:Net", input_shape="3,8,8")


# ------------------------------------------------------------------------------------------------------------- export
@pytest.mark.parametrize("count", [1, 4])
def test_the_graph_answers_as_the_module_whatever_the_order(network: Network, session: Session, count: int) -> None:
    given = feeds(count, seed=count)
    with torch.no_grad():
        want = network.module(**{name: torch.from_numpy(value) for name, value in given.items()})
    assert [info.name for info in session.inputs] == ["left", "right", "meta"]
    for order in (list(given), list(given)[::-1]):
        found = session({name: given[name] for name in order})
        assert list(found) == ["scores", "gap"]
        for name, value in want.items():
            np.testing.assert_allclose(found[name], value.numpy(), atol=1e-5)
    swapped = session({"left": given["right"], "right": given["left"], "meta": given["meta"]})
    assert np.abs(swapped["scores"] - want["scores"].numpy()).max() > 1e-3, "or the test could not tell them apart"


def test_the_batch_is_open_in_all_inputs_or_in_none(session: Session) -> None:
    assert [info.shape[0] for info in session.inputs] == ["batch"] * 3
    shapes = {"left": (3, 16, 16), "right": (3, 16, 16), "meta": (4,)}
    fixed = export_module(Apart(), shapes, dynamic_batch=False, output_names=("scores", "gap"))
    assert [value.type.tensor_type.shape.dim[0].dim_value for value in fixed.graph.input] == [1, 1, 1]


def test_the_noise_of_the_network_is_that_of_all_inputs(network: Network) -> None:
    """In float64, with other weights by a unit in the last place: what a stage below 90 dB is held to."""
    reference = stages.Reference(network, [feeds(2)], ("scores", "gap"))
    assert 90 < reference.noise_db < 200


class Ops(Apart):
    """Parameters that are called as torch calls what the network makes."""

    input_shapes: ClassVar[Any] = {"conv2d": (3, 16, 16), "mean": (4,)}

    def forward(self, conv2d: Any, mean: Any) -> Any:
        return self.fc(torch.cat([self.body(conv2d).mean((2, 3)), mean], 1))


def test_inputs_may_be_called_as_operators_are() -> None:
    net = Ops().eval()
    draw = np.random.default_rng(0).standard_normal
    given = {"conv2d": draw((2, 3, 16, 16), np.float32), "mean": draw((2, 4), np.float32)}
    found = open_session(export_module(net, net.input_shapes))(given)["output"]
    with torch.no_grad():
        want = net(*map(torch.from_numpy, given.values()))
    np.testing.assert_allclose(found, want.numpy(), atol=1e-5)


class Echo(One):
    def forward(self, picture: Any, gain: Any) -> Any:
        return {"picture": self.conv(picture) * gain[:, :, None, None]}


class Named(One):
    def forward(self, picture: Any, gain: Any) -> Any:
        return self.conv(picture).mean((2, 3)) * gain


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Echo(), "picture: is the name of an input and of an output; rename the key that forward returns"),
        (Named(), "gain: is the name of an input and of a parameter of the network; rename one"),
    ],
)
def test_two_things_of_one_name_are_refused(net: nn.Module, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        export_module(net, {"picture": (3, 8, 8), "gain": (2,)})


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--dynamic-size"], "--dynamic-size: is for one picture, and left, right and meta are fed as they are"),
        (["--preprocess", "imagenet"], "--preprocess imagenet: is for one picture, and left, right and meta"),
        (["--decode", "yolov8"], "--decode yolov8: is for one picture, and left, right and meta are fed as they"),
        (["--input-shape", "meta:9"], "Apart: does not run on left 1,3,16,16 and right 1,3,16,16 and meta 1,9"),
    ],
)
def test_what_needs_one_picture_says_so(
    words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", f"{__file__}:Apart", "-o", str(tmp_path / "x.onnx"), *words]) == 2
    assert f"error: {complaint}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_it_is_not_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"{__file__}:Apart", "--data", "digits", "-o", str(tmp_path / "w.safetensors")]) == 2
    said = capsys.readouterr().err
    assert "takes meta, right and left; training needs one input: train it in PyTorch and give its weights" in said


# ----------------------------------------------------------------------------------------- the other commands on torch
def without(path: Path, name: str, rows: slice) -> Path:
    """The model in `path`, some rows of whose weight `name` are 0."""
    model = onnx.load(path)
    (weight,) = (t for t in model.graph.initializer if list(t.dims) == [5, 12])
    values = onnx.numpy_helper.to_array(weight).copy()
    values[:, rows] = 0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, path.with_name(name))
    return path.with_name(name)


@pytest.fixture
def source(network: Network, tmp_path: Path) -> list[str]:
    """The words that name the network on a command line."""
    torch.save(network.module.state_dict(), tmp_path / "w.pt")
    return [f"{__file__}:Apart", "--weights", str(tmp_path / "w.pt")]


def test_check_and_diff_feed_the_module_all_inputs(
    source: list[str], exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *weights = source
    assert main(["check", name, str(exported), *weights, "--snr-db", "90"]) == 0
    blind = without(exported, "blind.onnx", slice(8, 12))  # what comes from `meta`
    assert main(["check", name, str(blind), *weights, "--snr-db", "90"]) == 1
    capsys.readouterr()
    arrays = {name: value[:2] for name, value in feeds(3).items()}
    assert api.diff(name, exported, weights=Path(weights[1]), data=arrays).first is None
    found = api.diff(name, blind, weights=Path(weights[1]), data=arrays).first
    assert found is not None
    assert found.module == "fc"


def test_inspect_counts_what_runs(source: list[str], network: Network) -> None:
    found = api.inspect(source[0])
    assert [info.name for info in found.inputs] == ["left", "right", "meta"]
    assert [info.name for info in found.outputs] == ["scores", "gap"]
    body = 16 * 16 * 8 * 27 + 14 * 14 * 8 * 72
    assert found.macs == 2 * body + 60
    assert found.params == sum(p.numel() for p in network.module.parameters())


def test_a_race_runs_the_module_on_all_inputs(source: list[str], network: Network) -> None:
    racer = TorchRacer(Job(source[0], "cpu", 1, 2, 3, kind="torch", weights=source[2]))
    assert racer.fed == {"left": (2, 3, 16, 16), "right": (2, 3, 16, 16), "meta": (2, 4)}
    made = racer.ready()()
    with torch.no_grad():
        want = network.module(**racer.given)
    assert torch.equal(made["scores"], want["scores"])  # type: ignore[index]
