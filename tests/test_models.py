"""Every file in `edgecnn/models` keeps its contract, and each network is the one that its paper means."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import edgecnn.models
from edgecnn import zoo
from edgecnn.models.resnet import Bottleneck
from runtimes import plugins
from runtimes.base import BadInput
from runtimes.preprocess import Preprocess
from torchvision_oracle import torchvision_models

ROWS = zoo.list_models()
NAMES = [row.name for row in ROWS]
CLASSIFIERS = [row.name for row in ROWS if row.task == "classification"]


def shapes(name: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in zoo.find(name).build(num_classes=num_classes).state_dict().items()}


def trace(name: str, layers: list[str]) -> list[tuple[int, ...]]:
    """Output shapes (without batch) of the named layers for one image, computed on the meta device."""
    spec, seen = zoo.find(name), {}
    with torch.device("meta"):
        module = spec.build(num_classes=spec.num_classes).eval()
        for layer in layers:
            module.get_submodule(layer).register_forward_hook(
                lambda _m, _x, y, layer=layer: seen.__setitem__(layer, tuple(y.shape[1:]))
            )
        module(torch.zeros(1, *spec.input_shape))
    return [seen[layer] for layer in layers]


# -------------------------------------------------------------------------------------------- the folder's contract
def test_names_are_unique_and_every_file_is_listed() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {row.file for row in ROWS} == set(plugins.names(edgecnn.models))


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str) -> None:
    spec = zoo.find(name)
    assert spec.name == name
    assert isinstance(spec.preprocess, Preprocess)
    assert spec.input_shape == (spec.preprocess.channels, *spec.preprocess.size)
    assert spec.paper
    assert spec.labels == () or len(spec.labels) == spec.num_classes


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_answers_with_a_row_of_logits_an_image(name: str) -> None:
    spec = zoo.find(name)
    with torch.device("meta"):
        logits = spec.build(num_classes=7)(torch.zeros(2, *spec.input_shape))
    assert logits.shape == (2, 7)


def test_the_index_is_what_the_files_say() -> None:
    assert zoo.INDEX.read_text("utf-8") == zoo.index_text(), "stale: run `python -m edgecnn.models`"


def test_a_file_that_the_index_lacks_is_listed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    without = tuple(row for row in ROWS if row.file != "lenet")
    monkeypatch.setattr(zoo, "read_index", lambda: without)
    assert sorted(row.name for row in zoo.list_models()) == sorted(NAMES)
    assert zoo.find("lenet5").name == "lenet5"


def test_a_row_whose_file_is_gone_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    ghost = zoo.ZooRow("ghost", "no_such_file", "classification", (3, 8, 8), 10, 1, 1, "-")
    monkeypatch.setattr(zoo, "read_index", lambda: (*ROWS, ghost))
    assert "ghost" not in {row.name for row in zoo.list_models()}


def test_listing_imports_no_torch() -> None:
    code = "import sys; from edgecnn import zoo; print([len(zoo.list_models()), int('torch' in sys.modules)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[{len(ROWS)}, 0]"


@pytest.mark.parametrize(
    ("typed", "meant"), [("resnet8_w23", "resnet8_w32"), ("mobilenetv2", "mobilenet_v2"), ("lenet", "lenet5")]
)
def test_an_unknown_name_answers_with_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(BadInput, match=f"^{typed}: unknown network; did you mean .*{meant}"):
        zoo.find(typed)


# ---------------------------------------------------------------------------------------------- the published numbers
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("lenet5", 61_706),  # 156 + 2,416 + 48,120 + 10,164 + 850
        ("resnet8", 78_186 - 240),  # MLPerf Tiny's 78,666 less 480 statistics, less 240 biases before norms
        ("resnet18", 11_689_512),  # torchvision's documentation, as the rest
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("mobilenet_v2", 3_504_872),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("vgg16_bn", 138_365_992),
        ("vgg19_bn", 143_678_248),
    ],
)
def test_parameters(name: str, params: int) -> None:
    assert next(row.params for row in ROWS if row.name == name) == params


@pytest.mark.parametrize(
    ("name", "giga_macs"),
    [
        ("resnet18", 1.814),  # torchvision's documentation of its weights ("GFLOPS", counted as multiply-adds)
        ("resnet34", 3.664),
        ("resnet50", 4.089),  # 3.8 with the stride on the 1x1, as in the paper
        ("resnet101", 7.801),
        ("resnet152", 11.514),
        ("mobilenet_v2", 0.301),
        ("vgg16", 15.470),
        ("vgg19", 19.632),
        ("resnet8", 0.0125),  # MLPerf Tiny: 12.5 M
    ],
)
def test_multiply_adds(name: str, giga_macs: float) -> None:
    # The published figures are rounded to three digits after the point.
    assert next(row.macs for row in ROWS if row.name == name) / 1e9 == pytest.approx(giga_macs, abs=5.1e-4)


def test_lenet5_shapes_are_those_of_the_paper() -> None:
    assert trace("lenet5", ["conv1", "conv2", "fc1", "fc2"]) == [(6, 28, 28), (16, 10, 10), (120,), (84,)]


@pytest.mark.parametrize("name", ["resnet8", "resnet8_w32"])
def test_resnet8_stacks(name: str) -> None:
    w = 32 if name.endswith("w32") else 16
    assert trace(name, ["conv1", "layer1", "layer2", "layer3"]) == [
        (w, 32, 32),
        (w, 32, 32),
        (2 * w, 16, 16),
        (4 * w, 8, 8),
    ]


def test_resnet50_stages_and_its_stride_on_the_3x3() -> None:
    assert trace("resnet50", ["maxpool", "layer1", "layer2", "layer3", "layer4"]) == [
        (64, 56, 56),
        (256, 56, 56),
        (512, 28, 28),
        (1024, 14, 14),
        (2048, 7, 7),
    ]
    with torch.device("meta"):
        first = zoo.find("resnet50").build().get_submodule("layer2.0")
    assert isinstance(first, Bottleneck)
    assert (first.conv1.stride, first.conv2.stride, first.conv3.stride) == ((1, 1), (2, 2), (1, 1))


def test_resnet8_shortcuts_are_bare_convolutions_only_where_the_shape_changes() -> None:
    keys = {k for k in shapes("resnet8", 10) if "downsample" in k}
    assert keys == {f"layer{i}.downsample.{p}" for i in (2, 3) for p in ("weight", "bias")}


# -------------------------------------------------------------------------------------------- torchvision, the oracle
def oracle(name: str, **options: int) -> nn.Module:
    """torchvision's network of that name with random weights; skips where it has none."""
    models = torchvision_models()
    if name not in models.list_models():
        pytest.skip(f"torchvision has no {name}")
    network: nn.Module = models.get_model(name, weights=None, **options)
    return network


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_names_and_shapes_are_torchvisions(name: str) -> None:
    """In the same order too: a checkpoint that is loaded by position fits as well."""
    with torch.device("meta"):
        theirs = oracle(name, num_classes=12).state_dict()
    assert list(shapes(name, 12).items()) == [(k, tuple(v.shape)) for k, v in theirs.items()]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "vgg16_bn"])
def test_initial_values_and_outputs_are_torchvisions(name: str) -> None:
    torch.manual_seed(3)
    theirs = oracle(name).train()
    torch.manual_seed(3)
    ours = zoo.find(name).build().train()
    expected = theirs.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for module in (ours, theirs):
        torch.manual_seed(4)  # the same dropout mask
        module.output = module(x)  # type: ignore[assignment]
    assert torch.equal(ours.output, theirs.output)  # type: ignore[arg-type]
