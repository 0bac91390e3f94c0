"""A SOURCE becomes a network that runs: names, files, libraries, weights that know their own, one-line errors."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edgecnn
from edgecnn.data.textures import textures
from edgecnn.networks import zoo
from edgecnn.networks.sources import first_channels, resolve, settle
from edgecnn.networks.spec import IMAGENET, image_shape, preprocess_for, unit_range
from edgecnn.networks.weights import Trained, classes_in, save_weights
from runtimes.base import BadInput, Unavailable
from runtimes.imaging.preprocess import Preprocess
from torchvision_oracle import torchvision_models

NETS = '''
import torch
from torch import nn

class Net(nn.Module):
    """Grey images of any size."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

class Told(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)

class Sized(Net):
    input_shape = (1, 40, 48)
    labels = ("a", "b")
    preprocess = {"size": [40, 48], "channels": 1, "mean": [0.25], "std": [0.5]}

def fixed():
    return Net(3)

ready = Net(2)
'''


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


# ------------------------------------------------------------------------------------------------------------- the zoo
@pytest.mark.parametrize("name", ["lenet5", "resnet8", "mobilenet_v2"])
def test_without_weights_a_network_of_the_zoo_is_seeded_alive_and_says_so(name: str) -> None:
    first, second = resolve(name), resolve(name)
    assert first.seeded
    assert first.weights is None
    assert not first.module.training
    assert all(torch.equal(v, second.module.state_dict()[k]) for k, v in first.module.state_dict().items())
    x = torch.randn(2, *first.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = first.module(x)
    # Two noise images must give visibly different logits; without live statistics MobileNetV2's differ by 1e-13.
    assert (y[0] - y[1]).abs().max() > 1e-3


def test_resolving_does_not_disturb_the_callers_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    resolve("resnet8")
    assert torch.equal(torch.rand(1), expected)


def test_settling_changes_statistics_only_and_restores_the_momenta() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(0.5)).eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    settle(module, unit_range(16, 16))
    assert {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])} == {
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    }
    assert module[1].momentum == 0.3
    assert not any(m.training for m in module.modules())
    pictures = torch.from_numpy(textures(unit_range(16, 16), 4, np.random.default_rng(0)))
    expected = module[0](pictures).transpose(0, 1).flatten(1).mean(1)
    # One float32 mean over 784 values against another: rounding of 1e-7 each.
    torch.testing.assert_close(module[1].running_mean, expected, atol=1e-6, rtol=0)


def test_a_zoo_network_at_another_size_keeps_its_statistics() -> None:
    network = resolve("resnet18", input_shape="1,3,64,96")
    assert network.input_shape == (3, 64, 96)
    assert network.preprocess == replace(IMAGENET, size=(64, 96), resize=None)


@pytest.mark.parametrize(
    ("source", "shape", "complaint"),
    [
        ("lenet5", "1,1,64,64", r"lenet5: does not run on 1,1,64,64 .*give --input-shape"),
        ("resnet8", "1,1,32,32", "does not run on"),
        ("resnet8", "1,4,32,32", "does not run on"),
        ("resnet8", "32,32", "does not run on 1,32,32 .*give --input-shape C,H,W"),
        ("resnet8", "3,0,32", "1 or more"),
        ("resnet8", (3, 32, 99999), "sizes go from 1 to 16,384"),
        ("resnet8", (3, 32.0, 32), "write C,H,W"),
    ],
)
def test_shapes_that_do_not_fit(source: str, shape: str | tuple[int, ...], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        resolve(source, input_shape=shape)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("resnet81", "resnet81: unknown network; did you mean resnet8 or resnet18"),
        ("nets.py", "nets.py: names no network; write nets.py:NAME"),
        ("m.onnx", "m.onnx: is exported already"),
        (":Net", "unknown source"),
        ("nets.py:", "unknown source"),
        ("nope.py:Net", "nope.py: no such file"),
        ("no.such.package:Net", "no.such.package: no module of this name"),
    ],
)
def test_sources_that_do_not_exist(source: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        resolve(source)


# ------------------------------------------------------------------------------------------------------------- weights
def saved(path: Path, source: str, classes: int, trained: bool) -> Path:
    channels = zoo.find(source).input_shape[0]
    network = resolve(source, num_classes=classes, input_shape=(channels, 32, 32))
    names = tuple(f"c{i}" for i in range(classes))
    pre = unit_range(32, 32, network.input_shape[0])
    shape = (network.input_shape[0], 32, 32)
    about = Trained(source, classes, shape, pre, names, "digits", 0.5, 0, edgecnn.__version__)
    return save_weights(network.module, path, about if trained else None)


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("source", ["lenet5", "resnet8", "mobilenet_v2"])
def test_the_number_of_classes_comes_from_the_weights(tmp_path: Path, source: str, trained: bool) -> None:
    path = saved(tmp_path / "w.safetensors", source, 7, trained)
    network = resolve(source, path)
    assert (network.seeded, network.weights) == (False, str(path))
    assert network.labels == (tuple(f"c{i}" for i in range(7)) if trained else ())
    with torch.no_grad():
        assert network.module(torch.zeros(1, *network.input_shape)).shape == (1, 7)
    if trained:
        assert network.input_shape[1:] == (32, 32)
        assert network.preprocess == unit_range(32, 32, network.input_shape[0])


def test_weights_of_another_network_say_whose_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", "lenet5", 10, True)
    with pytest.raises(BadInput, match=r"w.safetensors \(lenet5\): does not fit the network"):
        resolve("resnet8", path)


def test_other_num_classes_than_the_weights_have(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", "resnet8", 7, True)
    with pytest.raises(BadInput, match=r"fc\.weight is 7x64, not 5x64"):
        resolve("resnet8", path, num_classes=5)


def test_classes_are_found_only_where_nothing_else_differs() -> None:
    built = {"a": torch.zeros(10, 3), "b": torch.zeros(10), "c": torch.zeros(10, 9)}
    assert classes_in({"a": torch.zeros(7, 3), "b": torch.zeros(7), "c": torch.zeros(10, 9)}, built, 10) == 7
    assert classes_in(built, built, 10) is None
    assert classes_in({"a": torch.zeros(7, 4), "b": torch.zeros(10)}, built, 10) is None
    assert classes_in({"a": torch.zeros(7, 3), "b": torch.zeros(8)}, built, 10) is None


# ------------------------------------------------------------------------------------------------------------ own files
def test_a_class_a_function_and_a_ready_module_in_a_file(nets: Path) -> None:
    for name, classes in (("Net", 10), ("fixed", 3), ("ready", 2)):
        network = resolve(f"{nets}:{name}")
        assert network.name == name
        assert network.input_shape == (1, 224, 224)  # one channel by the first convolution, 224 for want of better
        with torch.no_grad():
            assert network.module(torch.zeros(1, 1, 32, 32)).shape == (1, classes)


def test_num_classes_reaches_the_callable_or_is_refused(nets: Path, tmp_path: Path) -> None:
    assert resolve(f"{nets}:Net", num_classes=4).module.fc.out_features == 4
    assert resolve(f"{nets}:Told", num_classes=4).module.fc.out_features == 4
    with pytest.raises(BadInput, match="Told: its num_classes has no default; give --num-classes N"):
        resolve(f"{nets}:Told")
    with pytest.raises(BadInput, match="fixed: takes no num_classes"):
        resolve(f"{nets}:fixed", num_classes=4)
    for classes in (2, 6):
        path = tmp_path / f"{classes}.pt"
        torch.save(resolve(f"{nets}:Told", num_classes=classes).module.state_dict(), path)
        assert resolve(f"{nets}:Told", path).module.fc.out_features == classes


def test_code_that_loads_its_own_weights_is_not_called_random(nets: Path, tmp_path: Path) -> None:
    """`nets` says where; a head drawn on loaded layers is random still, and one that can be made once says nothing."""
    torch.save(nn.Conv2d(3, 4, 3).state_dict(), tmp_path / "conv.pt")
    (nets.parent / "loads.py").write_text(f"""
import torch
from torch import nn

made = []

def conv():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net[0].load_state_dict(torch.load({str(tmp_path / "conv.pt")!r}, weights_only=True))
    return net

def headed():
    return nn.Sequential(*conv(), nn.Linear(4, 3))

def once():
    made.append(1)
    if len(made) > 1:
        raise RuntimeError("again")
    return headed()

ready = headed()
""")
    loads = nets.parent / "loads.py"
    found = {
        name: resolve(f"{loads}:{name}", input_shape="3,8,8").seeded for name in ("conv", "headed", "once", "ready")
    }
    assert found == {"conv": False, "headed": True, "once": False, "ready": False}


def test_attributes_of_the_callable_say_what_it_eats(nets: Path) -> None:
    network = resolve(f"{nets}:Sized")
    assert network.input_shape == (1, 40, 48)
    assert network.labels == ("a", "b")
    assert network.preprocess.mean == (0.25,)
    assert resolve(f"{nets}:Sized", input_shape="1,20,20").preprocess.mean == (0.25,)


def test_an_own_network_keeps_the_statistics_that_it_came_with(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\nnet = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))\n"
    )
    norm = resolve(f"{tmp_path}/own.py:net").module[1]
    assert norm.running_mean.tolist() == [0.0, 0.0]


def test_a_module_in_the_working_folder(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nets.parent)
    nets.rename(nets.parent / "own_nets_4711.py")
    assert resolve("own_nets_4711:Net").name == "Net"
    assert str(nets.parent) not in sys.path


# ----------------------------------------------------------------------------------------------------------- libraries
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_that_is_missing_is_named_with_its_install_line(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"{library}.models", raising=False)
    with pytest.raises(Unavailable, match=f"{library}: .*pip install {library}"):
        resolve(f"{library}:resnet18")


def test_a_library_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator timm::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(Unavailable, match=r"timm: does not load beside torch .*operator timm::nms"):
        resolve("timm:x")


def test_timm_by_its_own_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = {
        "input_size": (3, 48, 48),
        "crop_pct": 0.75,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.2, 0.2),
        "num_classes": 9,
        "interpolation": "bicubic",
    }
    asked = []

    def create_model(name: str, pretrained: bool, num_classes: int) -> nn.Module:
        asked.append((name, pretrained, num_classes))
        return nn.Sequential(nn.Conv2d(3, num_classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    fake = types.SimpleNamespace(
        list_models=lambda: ["tiny", "tinier"],
        get_pretrained_cfg=lambda name: types.SimpleNamespace(to_dict=lambda: cfg),
        create_model=create_model,
    )
    monkeypatch.setitem(sys.modules, "timm", fake)  # type: ignore[arg-type]
    network = resolve("timm:tiny", num_classes=4)
    assert asked == [("tiny", False, 4)]
    assert (network.input_shape, network.preprocess.resize) == ((3, 48, 48), 64)
    assert network.preprocess.interpolation == "bicubic"
    cfg["interpolation"] = "random"
    assert resolve("timm:tiny").preprocess.interpolation == "bilinear"
    cfg.update(crop_mode="squash", crop_pct=1.0)
    assert resolve("timm:tiny").preprocess.resize is None
    fake.create_model = lambda name, **kwargs: 1 / 0
    with pytest.raises(BadInput, match=r"tiny: its library cannot build it \(division by zero\)"):
        resolve("timm:tiny")
    with pytest.raises(BadInput, match="timm:tinyy: unknown network; did you mean tiny"):
        resolve("timm:tinyy")


def test_torchvision_fetches_no_weights_of_a_backbone_and_says_classes_and_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its segmenters take a backbone's weights from the network where nothing is said, and are made for 21 classes."""
    asked = []

    def lraspp(*, weights: object = 1, weights_backbone: object = "fetched", num_classes: int = 21) -> nn.Module:
        asked.append((weights, weights_backbone, num_classes))
        return nn.Conv2d(3, num_classes, 1)

    def raft(*, weights: object = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten())

    builders = {"lraspp": lraspp, "raft": raft}
    cubic = types.SimpleNamespace(value="bicubic")
    pixels = types.SimpleNamespace(resize_size=[52], mean=[0.5] * 3, std=[0.25] * 3, interpolation=cubic)
    said = {"lraspp": (pixels, {"categories": ["x"] * 21}), "raft": (types.SimpleNamespace(), {})}
    fake = types.SimpleNamespace(
        list_models=lambda: [*builders],
        get_model=lambda name, **kwargs: builders[name](**kwargs),
        get_model_builder=builders.__getitem__,
        get_model_weights=lambda name: types.SimpleNamespace(
            DEFAULT=types.SimpleNamespace(transforms=lambda: said[name][0], meta=said[name][1])
        ),
    )
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", fake)  # type: ignore[arg-type]
    network = resolve("torchvision:lraspp")
    assert asked == [(None, None, 21)]
    wanted = Preprocess((52, 52), 3, 52, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), interpolation="bicubic")
    assert network.preprocess == wanted
    resolve("torchvision:lraspp", num_classes=3)
    assert asked[-1] == (None, None, 3)
    assert resolve("torchvision:raft").preprocess == IMAGENET
    with pytest.raises(BadInput, match="raft: takes no num_classes"):
        resolve("torchvision:raft", num_classes=3)


def test_torchvision_networks_with_its_own_preprocessing() -> None:
    torchvision_models()
    network = resolve("torchvision:resnet18", num_classes=12)
    assert network.preprocess == IMAGENET
    assert network.seeded
    ours = resolve("resnet18", num_classes=12)
    assert all(torch.equal(v, ours.module.state_dict()[k]) for k, v in network.module.state_dict().items())
    with pytest.raises(BadInput, match="torchvision:resnet81: unknown network; did you mean"):
        resolve("torchvision:resnet81")


# -------------------------------------------------------------------------------------------------------------- helpers
def test_first_channels_and_preprocessing_for_a_shape() -> None:
    assert first_channels(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))) == 3
    assert first_channels(nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 1))) == 1
    assert preprocess_for((3, 224, 224)) == IMAGENET
    assert preprocess_for((3, 299, 299)).resize == 341  # 8/7 of it, as 256 is of 224
    assert preprocess_for((3, 32, 32)).resize is None
    assert preprocess_for((1, 28, 28)) == unit_range(28, 28, channels=1)
    assert image_shape([1, 3, 5, 7]) == (3, 5, 7)


def test_every_network_of_the_zoo_gets_numbers_that_preprocessing_can_make() -> None:
    for row in zoo.list_models():
        spec = zoo.find(row.name)
        assert spec.preprocess(np.zeros((9, 11, 3), np.uint8)).shape == row.input_shape


BROKEN = """
import torch
from torch import nn
from torch.nn import functional as F

class Forgetful(nn.Module):
    def forward(self, x):
        return F.dropout(x.flatten(1), 0.3)

class Bug(nn.Module):
    def forward(self, x):
        return x @ torch.ones(5, 3)  # line 12

class Stream(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1, 3, 8, 8))
        self.register_buffer("fixed", torch.ones(1))
    def forward(self, x):
        self.seen = 0.5 * self.seen + x[:1]
        return (x + self.fixed * self.seen).flatten(1)

class Two(nn.Module):
    def forward(self, a, b):
        return a + b

class InPlace(nn.Module):
    def forward(self, x):
        x -= 0.5
        return (2 * x).flatten(1)
"""


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("InPlace", "InPlace: its forward changes its input in place, as `x -= 0.5` does"),
        ("Forgetful", "Forgetful: answers the same picture differently each time; is there a dropout without"),
        (
            "Stream",
            "Stream: its forward writes the buffer seen, a state that it keeps between calls, .*; make the state",
        ),
        ("Bug", r"Bug: does not run on 1,3,8,8 at nets.py line 12 \(.*\); mend it, or give --input-shape"),
        ("Two", "Two: its forward takes a and b; give --input-shape a:SIZES --input-shape b:SIZES"),
    ],
)
def test_a_network_that_cannot_be_shipped_says_where(name: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(BROKEN)
    with pytest.raises(BadInput, match=complaint):
        resolve(f"{tmp_path / 'nets.py'}:{name}", input_shape="3,8,8")
