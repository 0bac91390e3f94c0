"""Every file in `edgecnn/models` keeps its contract, and each network is the one that its paper means."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import edgecnn.models
from edgecnn.models.resnet import Bottleneck
from edgecnn.networks import zoo
from runtimes import plugins
from runtimes.base import BadInput
from runtimes.imaging.preprocess import Preprocess

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


def test_the_table_in_the_documentation_is_what_the_files_say() -> None:
    page = (Path(__file__).parent.parent / "docs" / "zoo.md").read_text("utf-8")
    assert zoo.with_table(page, zoo.table_text(ROWS)) == page, "stale: run `python -m edgecnn.models`"


def test_the_table_has_exact_parameters_and_a_line_a_network() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgecnn.models", "--table"], capture_output=True, text=True, check=True
    )
    assert done.stdout == zoo.table_text(ROWS)
    assert "| `lenet5` | classification | 1x32x32 | 61,706 | 417 k | 247 kB | LeCun et al. 1998 |" in done.stdout
    assert len(done.stdout.splitlines()) == len(ROWS) + 2


def test_a_page_without_marks_is_not_written_over() -> None:
    assert zoo.with_table(f"a\n{zoo.BEGIN}\nold\n{zoo.END}\nb\n", "new\n") == f"a\n{zoo.BEGIN}\nnew\n{zoo.END}\nb\n"
    with pytest.raises(ValueError, match="has no"):
        zoo.with_table("no marks", "new\n")


def test_the_document_of_the_zoo() -> None:
    row = next(row for row in ROWS if row.name == "vgg16").to_dict()
    assert row == {
        "name": "vgg16",
        "task": "classification",
        "input": [3, 224, 224],
        "classes": 1000,
        "params": 138_357_544,
        "macs": 15_470_264_320,
        "size": 553_430_176,  # the lecture's 552MB
        "paper": "Simonyan, Zisserman 2014",
    }


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
    code = "import sys; from edgecnn.networks import zoo; print([len(zoo.list_models()), int('torch' in sys.modules)])"
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
        ("alexnet_original", 62_378_344),  # 34,944 + 614,656 + 885,120 + 1,327,488 + 884,992 + 58,631,144
        ("alexnet", 61_100_840),
        ("squeezenet1_1", 1_235_496),
        ("mobilenet_v1", 4_253_864 - 21_888),  # Keras' documentation, less its running statistics
        ("mobilenet_v1_025", 475_544 - 5_472 - 257 * 990),  # the same, and 10 classes for its 1000
        ("mobilenet_v3_large", 5_483_032),
        ("mobilenet_v3_small", 2_542_856),
        ("shufflenet_v2_x1_0", 2_278_604),
        ("googlenet", 6_624_904),
        ("densenet121", 7_978_856),
        ("efficientnet_b0", 5_288_548),
        ("efficientnet_lite0", 4_652_008),  # timm's documentation: 4.65 M
        # resnet18 less the first norm (2*64), narrower first norms (2*(64 + 128 + 256)), no norms in the shortcuts
        # (2*(128 + 256 + 512)), and a last one (2*512)
        ("preact_resnet18", 11_689_512 - 128 - 896 - 1_792 + 1_024),
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
        ("alexnet", 0.714),
        ("squeezenet1_1", 0.349),
        ("mobilenet_v1", 0.569),  # the paper's table 4
        ("mobilenet_v3_large", 0.217),
        ("mobilenet_v3_small", 0.057),
        ("shufflenet_v2_x1_0", 0.145),
        ("googlenet", 1.498),
        ("densenet121", 2.834),
        ("efficientnet_b0", 0.386),
        ("preact_resnet18", 1.814),  # where the norms stand changes no convolution
        ("resnet8", 0.0125),  # MLPerf Tiny: 12.5 M
    ],
)
def test_multiply_adds(name: str, giga_macs: float) -> None:
    # The published figures are rounded to three digits after the point.
    assert next(row.macs for row in ROWS if row.name == name) / 1e9 == pytest.approx(giga_macs, abs=5.1e-4)


def test_lenet5_shapes_are_those_of_the_paper() -> None:
    assert trace("lenet5", ["conv1", "conv2", "fc1", "fc2"]) == [(6, 28, 28), (16, 10, 10), (120,), (84,)]


def test_alexnet_shapes_are_those_of_the_deck() -> None:
    """The table of lecture 002, line by line; channels first."""
    layers = [f"features.{i}" for i in (0, 2, 3, 5, 6, 8, 10, 12)] + [f"classifier.{i}" for i in (1, 4, 6)]
    assert trace("alexnet_original", layers) == [
        (96, 55, 55),  # CONV1: 96 11x11 filters at stride 4, pad 0
        (96, 27, 27),  # MAX POOL1: 3x3 filters at stride 2
        (256, 27, 27),  # CONV2: 256 5x5 filters at stride 1, pad 2
        (256, 13, 13),  # MAX POOL2
        (384, 13, 13),  # CONV3: 384 3x3 filters at stride 1, pad 1
        (384, 13, 13),  # CONV4
        (256, 13, 13),  # CONV5
        (256, 6, 6),  # MAX POOL3
        (4096,),
        (4096,),
        (1000,),
    ]


def test_pre_activation_leaves_nothing_on_the_path_of_the_sum() -> None:
    """With every branch silenced, a stage without shortcut convolutions hands its input through unchanged."""
    block = zoo.find("preact_resnet18").build().eval().get_submodule("layer2.1")
    torch.nn.init.zeros_(block.get_parameter("conv2.weight"))
    x = torch.randn(1, 128, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x)


def test_a_pre_activated_block_that_changes_the_shape_is_the_papers() -> None:
    """y = W_s a + W_2 relu(norm_2(W_1 a)) with a = relu(norm_1(x)): both paths start behind the activation."""
    torch.manual_seed(0)
    block = zoo.find("preact_resnet18").build().eval().get_submodule("layer2.0")
    p, f = dict(block.named_parameters()) | dict(block.named_buffers()), torch.nn.functional

    def norm(n: int, x: torch.Tensor) -> torch.Tensor:
        return f.batch_norm(x, *(p[f"bn{n}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")))

    x = torch.randn(1, 64, 8, 8)
    a = f.relu(norm(1, x))
    inner = f.relu(norm(2, f.conv2d(a, p["conv1.weight"], stride=2, padding=1)))
    wanted = f.conv2d(a, p["downsample.weight"], stride=2) + f.conv2d(inner, p["conv2.weight"], padding=1)
    torch.testing.assert_close(block(x), wanted, rtol=1e-5, atol=1e-5)


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
