"""Every network of the zoo folder goes the whole road: export -> simplify -> fold -> int8 -> finite answers.

A network joins by being in the folder. `SMALL` says where it is built smaller than it is (fewer classes, hidden
neurons and repetitions of a block, a smaller image), so that the whole file takes minutes; what is not named there runs
as it is. Nearly all of the time is torch's exporter, a tenth of a second for each layer: a smaller image saves little,
depth costs most. ResNet-101 keeps all of its layers: rounding errors grow with depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn import stages
from edgecnn.float_passes import NOISE_MARGIN_DB
from edgecnn.models import mobilenet_v1, mobilenet_v3
from edgecnn.networks import zoo
from edgecnn.networks.sources import Network, settle
from edgecnn.networks.spec import preprocess_for
from edgecnn.numbers.inspect import inspect_model
from edgecnn.numbers.layer_table import Table, layer_table
from edgecnn.numbers.torch_numbers import watch
from exporters.quantization.affine import WEIGHT_FORMS
from exporters.quantization.quantize import QuantRecipe, prepare
from exporters.quantization.work import start
from exporters.targets import weight_forms
from runtimes.session import open_session

PARITY_DB = 80.0
"""What float32 leaves of a deep network with random weights; trained ones are closer to 120."""


@dataclass(frozen=True)
class Small:
    """`side`: of the image; None is the network's own. `options`: further arguments of its `build`.

    `branch_end`: the last BatchNorm of each residual branch, damped to 0.2, about where training leaves it: random
    branches at full strength double any rounding error every few blocks, and a hundred layers leave 60 dB.
    """

    side: int | None = 64
    options: dict[str, Any] = field(default_factory=dict)
    branch_end: str | None = None


NARROW = ((8, 8), (12, 12), (16, 16, 16), (24, 24, 24), (32, 32, 32))
THIN = ((16, 16), (24, 24), (32,) * 4, (48,) * 4, (64,) * 4)
# Every kind of block, each no more often than it takes to have one that adds to its input.
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 1, 2), (6, 64, 1, 2), (6, 96, 1, 1), (6, 160, 1, 2), (6, 320, 1, 1))
EFFICIENT = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 1),
    (6, 5, 1, 112, 1),
    (6, 3, 1, 320, 1),
)
V3_LARGE = tuple(mobilenet_v3.LARGE[i] for i in (0, 1, 2, 3, 4, 6, 7, 10, 12, 13))
V3_SMALL = tuple(mobilenet_v3.SMALL[i] for i in (0, 1, 2, 3, 4, 6, 8, 9))
SMALL = {
    # VGG's convolutions at full width would run on 262x262 pixels: FCN puts 99 zeros on each side of an image.
    **{f"fcn{stride}s_vgg16": Small(options={"hidden": 32, "stages": NARROW}) for stride in (32, 16, 8)},
    "deconvnet": Small(options={"hidden": 32, "stages": NARROW, "fc_kernel": 2}),
    "unet": Small(options={"width": 16}),
    "fcn_resnet50": Small(options={"blocks": (1, 1, 2, 2), "width": 16}, branch_end="bn3"),
    # With 4096 hidden neurons nine of ten seconds go into copying one matrix. One VGG keeps its width.
    "vgg16_bn": Small(options={"hidden": 64}),
    "vgg16": Small(options={"hidden": 64, "stages": NARROW}),
    **{name: Small(options={"hidden": 64, "stages": THIN}) for name in ("vgg19", "vgg19_bn")},
    # Their own size: 11x11 at stride 4 leaves nothing of a small image.
    **{name: Small(side=None, options={"hidden": 64}) for name in ("alexnet", "alexnet_original")},
    "resnet18": Small(branch_end="bn2"),
    "resnet34": Small(32, {"blocks": (2, 1, 2, 1), "width": 32}, "bn2"),
    "resnet50": Small(options={"blocks": (1, 2, 1, 1)}, branch_end="bn3"),
    # The blocks of ResNet-50, fewer or more of them: one of the deep ones keeps its depth and pays with its width.
    "resnet101": Small(32, {"width": 16}, "bn3"),
    "resnet152": Small(32, {"blocks": (1, 2, 3, 1), "width": 32}, "bn3"),
    "densenet121": Small(options={"blocks": (3, 4, 6, 4)}),
    "shufflenet_v2_x1_0": Small(options={"blocks": (2, 3, 2)}),
    **{name: Small() for name in ("googlenet", "preact_resnet18", "squeezenet1_1")},
    **{name: Small(options={"stages": EFFICIENT}) for name in ("efficientnet_b0", "efficientnet_lite0")},
    "mobilenet_v1": Small(options={"layers": mobilenet_v1.LAYERS[:5] + mobilenet_v1.LAYERS[-3:]}),
    "mobilenet_v2": Small(options={"blocks": V2}),
    "mobilenet_v3_large": Small(options={"rows": V3_LARGE}),
    "mobilenet_v3_small": Small(options={"rows": V3_SMALL}),
    # Fewer windows and regions: each costs a pass through the last layers of its own.
    "rcnn_alexnet": Small(96, {"hidden": 64, "levels": 1}),
    "fast_rcnn_vgg16": Small(64, {"hidden": 16, "levels": 1}),
    **{
        name: Small(64, {"proposals": 4, "blocks": (1, 1, 1, 1), "width": 16})
        for name in ("faster_rcnn_resnet101", "rfcn_resnet101")
    },
    "yolov1": Small(128, {"hidden": 64, "grid": 2, "width": 16}),
    # Its own size: smaller images leave nothing for its last blocks.
    "ssd300_vgg16": Small(side=None, options={"width": 16}),
    "yolov3_tiny": Small(96),
    **{name: Small(128) for name in ("ssd_mobilenet_v1", "ssdlite_mobilenet_v2")},
}  # fmt: skip
AS_IT_IS = Small(side=None)
SLOW = ("resnet101",)
"""Ten seconds and more."""


def network(name: str, small: Small, num_classes: int | None = None) -> Network:
    """The network with seeded weights and live BatchNorm statistics."""
    spec = zoo.find(name)
    classes = num_classes or min(spec.num_classes, 10)
    shape = spec.input_shape if small.side is None else (spec.input_shape[0], small.side, small.side)
    preprocess = spec.preprocess if small.side is None else preprocess_for(shape, spec.preprocess)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = spec.build(num_classes=classes, **small.options).eval()
    found = Network(name, module, shape, preprocess, spec.task, classes=classes)
    for path, norm in module.named_modules():
        if small.branch_end and path.endswith(small.branch_end) and isinstance(norm, nn.BatchNorm2d):
            nn.init.constant_(norm.weight, 0.2)
    settle(module, found.ready)
    return found


def table_of(given: Network) -> Table:
    return layer_table((1, *given.input_shape), watch(given.module, given.input_shape)[1])


NOTHING = "nothing to do"


def goes_the_road(given: Network) -> None:
    model, done, reference = stages.float_road(given)  # raises where a stage is further off than float noise
    assert done[0].name == "export"
    if given.task != "detection":  # a list of boxes is compared by matching, and there are no decibels between lists
        lowest = min(stage.snr_db for stage in done if stage.snr_db is not None)
        assert lowest >= PARITY_DB or lowest >= reference.noise_db - NOISE_MARGIN_DB, f"{lowest:.0f} dB"
    work = start(prepare(model), QuantRecipe(target="avx2"), reference.feeds)
    quantized = work.quantized()
    assert quantized.int8_nodes > 0
    assert {risk.choice for risk in weight_forms.look(work)} <= set(WEIGHT_FORMS)
    answers = open_session(quantized.model)(reference.feeds[-1])
    if given.task == "detection":
        matching = reference.parity(open_session(model)).matching
        assert matching is not None
        assert matching.unmatched == 0
        assert matching.matched > 0
        assert len(answers["scores"]) > 0
    assert all(np.isfinite(value).all() for value in answers.values())
    if given.task == "classification":
        assert {name: value.shape for name, value in answers.items()} == {"logits": (3, given.classes)}
        table = inspect_model(model, given.name, 0).table
        assert inspect_model(quantized.model, given.name, 0).table == table
        if any(stage.name == "pool_before_conv" and stage.note != NOTHING for stage in done):
            assert sum(row.macs or 0 for row in table.rows) < sum(row.macs or 0 for row in table_of(given).rows)
        else:
            assert table == table_of(given)


@pytest.mark.parametrize(
    "name",
    [pytest.param(row.name, marks=[pytest.mark.slow] * (row.name in SLOW)) for row in zoo.list_models()],
)
def test_the_whole_road(name: str) -> None:
    goes_the_road(network(name, SMALL.get(name, AS_IT_IS)))


def test_no_small_network_is_named_that_does_not_exist() -> None:
    assert SMALL.keys() <= {row.name for row in zoo.list_models()}
