"""What the code of a network says of it, wherever it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgecnn import api
from edgecnn.networks import own_attributes
from edgecnn.networks.sources import resolve
from runtimes.base import BadInput

NETS = """
import torch
from torch import nn

labels = ("file a", "file b")

class Grey(nn.Module):
    input_shape = (1, 20, 24)
    preprocess = {"size": [20, 24], "mean": [0.25], "std": [0.5]}
    labels = ("cat", "dog")

    def __init__(self, num_classes=2):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

class Wide(Grey):
    def __init__(self, num_classes=2, width=32):
        super().__init__(num_classes)
        self.input_shape = (1, 20, width)

class Maps(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 2, 1)
        self.task = "segmentation"
        self.input_shape = (3, 8, 8)
        self.labels = torch.zeros(2)

class Bad(Grey):
    preprocess = {"colour": 1}

class Brief(Grey):
    preprocess = {"mean": [0.125], "std": [0.5]}

def factory():
    return Grey(10)

def other():
    return Grey()

other.input_shape = (1, 16, 16)

made = Wide(width=40)
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("carried") / "nets.py"
    path.write_text(NETS)
    return path


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Grey", (1, 20, 24)),
        ("factory", (1, 20, 24)),  # what the function does not say, its module does
        ("other", (1, 16, 16)),  # what it says itself counts
        ("Wide", (1, 20, 32)),  # set when it was built: nearer than its class
        ("made", (1, 20, 40)),
    ],
)
def test_the_nearest_that_says_something_counts(nets: Path, name: str, shape: tuple[int, int, int]) -> None:
    network = resolve(f"{nets}:{name}")
    assert network.input_shape == shape
    assert network.labels == ("cat", "dog")
    assert network.preprocess is not None
    assert (network.preprocess.mean, network.preprocess.size) == ((0.25,), shape[1:])
    assert not network.assumption()


def test_a_file_says_what_its_networks_do_not(nets: Path) -> None:
    network = resolve(f"{nets}:Maps")
    assert network.labels == ("file a", "file b")  # the tensor of that name says nothing
    assert (network.task, network.classes, network.input_shape) == ("segmentation", 2, (3, 8, 8))


def test_a_module_that_is_given_says_what_it_eats(nets: Path, tmp_path: Path) -> None:
    module = resolve(f"{nets}:Wide").module
    network = resolve(module)
    assert (network.input_shape, network.labels) == ((1, 20, 32), ("cat", "dog"))
    exported = api.export(module, tmp_path / "net.onnx")
    assert not exported.warnings
    assert api.inspect(tmp_path / "net.onnx").inputs[0].shape[1:] == (1, 20, 32)


def test_what_is_no_such_thing_says_nothing() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
            self.preprocess = nn.Identity()

        @property
        def input_shape(self) -> tuple[int, ...]:
            raise RuntimeError("not built yet")

        def labels(self) -> list[str]:
            return ["a"]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.preprocess(x)).mean((2, 3))

    network = resolve(Odd())
    assert network.input_shape == (3, 224, 224)
    assert network.labels == ()
    assert "says neither its input size nor its preprocessing" in network.assumption()


def test_an_attribute_that_cannot_be_is_refused(nets: Path) -> None:
    with pytest.raises(BadInput, match=r"nets\.py:Bad: colour: unknown preprocess setting"):
        resolve(f"{nets}:Bad")


def test_the_size_of_pictures_is_that_of_the_input(nets: Path) -> None:
    preprocess = resolve(f"{nets}:Brief").preprocess
    assert preprocess is not None
    assert (preprocess.size, preprocess.mean) == ((20, 24), (0.125,))


def test_a_factory_trains_at_the_size_of_its_class(nets: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="digits has 10 classes; let its answer have as many"):
        api.train(f"{nets}:other", "digits", tmp_path / "w.safetensors", epochs=1)
    report = api.train(f"{nets}:factory", "digits", tmp_path / "w.safetensors", epochs=1)
    assert not report.warnings
    assert resolve(f"{nets}:factory", tmp_path / "w.safetensors").input_shape == (1, 20, 24)


@pytest.mark.parametrize(
    ("shape", "name", "found"),
    [
        ((3, 8, 12), "unit", ((8, 12), (0.0,), (1.0,), "float32")),
        ((1, 8, 12), "signed", ((8, 12), (0.5,), (0.5,), "float32")),
        ((8, 12, 3), "raw", ((8, 12), (0.0,), (1 / 255,), "float32-nhwc")),
    ],
)
def test_a_preset_is_named_beside_the_shape(shape: tuple[int, ...], name: str, found: tuple[object, ...]) -> None:
    made = own_attributes.preset(name, shape, "net")
    assert (made.size, made.mean, made.std, made.input) == found


def test_a_preset_that_cannot_be_says_where_it_stands() -> None:
    with pytest.raises(BadInput, match=r"^net\.preprocess imagenet: is for RGB, the network takes 1 channel"):
        own_attributes.preset("imagenet", (1, 8, 8), "net.preprocess")


def test_a_preset_on_the_class_is_used() -> None:
    class Net(nn.Conv2d):
        input_shape, preprocess = (3, 8, 8), "unit"

        def __init__(self) -> None:
            super().__init__(3, 3, 1)

    for given, size in ((None, (8, 8)), ("3,8,12", (8, 12))):
        network = resolve(Net(), input_shape=given)
        assert network.preprocess is not None
        assert (network.preprocess.bounds, network.preprocess.size) == ((0, 1), size)
        assert not network.assumed.pixels


def test_a_preset_alone_is_for_the_size_that_is_given_or_assumed() -> None:
    class Net(nn.Conv2d):
        preprocess = "signed"

        def __init__(self) -> None:
            super().__init__(1, 3, 1)

    for given, size in ((None, (224, 224)), ("1,8,12", (8, 12))):
        network = resolve(Net(), input_shape=given)
        assert network.preprocess is not None
        assert (network.preprocess.bounds, network.preprocess.size) == ((-1, 1), size)
        assert (network.assumed.pixels, network.assumed.size) == (False, given is None)


def test_a_text_that_is_no_preset_means_something_else() -> None:
    class Net(nn.Conv2d):
        input_shape, preprocess = (3, 8, 8), "bicubic"

        def __init__(self) -> None:
            super().__init__(3, 3, 1)

    assert resolve(Net()).assumed.pixels
