"""The two-stage detectors: their parts by hand, dynamic regions in batches, names of torchvision's backbones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn.detection import proposals
from edgecnn.detection.heads import liven
from edgecnn.detection.proposals import RegionProposals, boxes_of_classes, on_every_image, per_image
from edgecnn.detection.select import OUTPUTS
from edgecnn.models.faster_rcnn import FasterRCNN
from edgecnn.models.rcnn import RCNN, FastRCNN, grid, with_context
from edgecnn.models.rfcn import RFCN
from edgecnn.networks import zoo
from exporters.torch_export import export_module
from runtimes.comparing.matching import align
from runtimes.session import open_session

SIZE = (64, 96)


def noise(images: int, seed: int = 0, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.randn(images, 3, *size, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------------------- parts
def test_rows_of_regions_find_their_image_and_rank() -> None:
    values = torch.arange(1.0, 11).reshape(5, 2)
    table = per_image(values, torch.tensor([0, 0, 2, 2, 2]), 4, 3)
    assert table[0].tolist() == [[1, 2], [3, 4], [0, 0]]
    assert table[1].tolist() == table[3].tolist() == [[0, 0]] * 3
    assert table[2].tolist() == [[5, 6], [7, 8], [9, 10]]


def test_windows_are_repeated_for_every_image() -> None:
    boxes, image = on_every_image(torch.arange(8.0).reshape(2, 4), torch.zeros(3, 1))
    assert image.tolist() == [0, 0, 1, 1, 2, 2]
    assert boxes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]] * 3


def test_every_class_has_a_box_of_its_own() -> None:
    """Class 0 keeps the region, class 1 moves it by its width and doubles its height."""
    code = torch.tensor([[[0, 0, 0, 0, 1, 0, 0, np.log(2)]]])
    start = torch.tensor([[[10.0, 10, 20, 30]]])
    boxes = boxes_of_classes(code.float(), start, (1, 1, 1, 1), (100, 100))
    assert boxes.shape == (1, 2, 1, 4)
    assert boxes[0, 0, 0].tolist() == pytest.approx([10, 10, 20, 30])
    assert boxes[0, 1, 0].tolist() == pytest.approx([20, 0, 30, 40])


def test_context_is_16_of_the_227_pixels() -> None:
    (box,) = with_context(torch.tensor([[0.0, 0, 195, 390]])).tolist()
    assert box == pytest.approx([-16, -32, 195 + 16, 390 + 32])


def test_the_grid_covers_all_shapes_and_sizes() -> None:
    regions = grid(torch.zeros(1, 3, 100, 100), 2)
    assert len(regions) == 3 * (1 + 9)
    assert regions[1].tolist() == [0, 0, 100, 100]


@pytest.fixture(scope="module")
def proposer() -> RegionProposals:
    torch.manual_seed(0)
    module = RegionProposals(8, width=16, proposals=5).eval()
    nn.init.normal_(module.cls_logits.weight, std=1.0)
    return module


def test_regions_are_the_best_that_do_not_overlap(proposer: RegionProposals) -> None:
    x = torch.randn(3, 8, 4, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        regions, image = proposer(x, SIZE)
        scores, boxes = proposer.answers(x, SIZE)
    assert image.tolist() == sorted(image.tolist())
    assert set(image.tolist()) == {0, 1, 2}
    assert int(image.bincount().max()) <= 5
    for n in range(3):
        mine = regions[image == n]
        assert torch.equal(mine[0], boxes[n, scores[n].argmax()])
        assert bool((mine >= 0).all())
        assert bool((mine <= torch.tensor([96.0, 64, 96, 64])).all())


# ------------------------------------------------------------------------------------------------------ the networks
BACKBONES = {
    "rcnn_alexnet": ("alexnet", ("features.", "classifier.1", "classifier.4")),
    "faster_rcnn_resnet101": ("resnet101", ("conv1", "bn1", "layer")),
    "rfcn_resnet101": ("resnet101", ("conv1", "bn1", "layer")),
}


@pytest.mark.parametrize("name", list(BACKBONES))
def test_backbones_have_the_names_and_shapes_of_the_classifier(name: str) -> None:
    classifier, prefixes = BACKBONES[name]
    with torch.device("meta"):
        ours, theirs = (zoo.find(n).build(num_classes=3).state_dict() for n in (name, classifier))
    shared = [key for key in theirs if key.startswith(prefixes)]
    assert len(shared) > 10
    assert all(ours[key].shape == theirs[key].shape for key in shared)


def test_fast_rcnn_has_vgg16_up_to_conv5_3() -> None:
    with torch.device("meta"):
        ours, theirs = (zoo.find(n).build(num_classes=3).state_dict() for n in ("fast_rcnn_vgg16", "vgg16"))
    assert [k for k in theirs if k.startswith("features")] == [k for k in ours if k.startswith("features")]
    assert ours["classifier.0.weight"].shape == theirs["classifier.0.weight"].shape
    assert ours["classifier.3.weight"].shape == theirs["classifier.3.weight"].shape


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("rcnn_alexnet", 61_100_840 - 4_097_000 + 4096 * 20 + 20 + 9216 * 80 + 80),  # AlexNet less its last layer
        ("fast_rcnn_vgg16", 138_357_544 - 4_097_000 + 4096 * 105 + 105),
        # ResNet-101 less its last layer, 3x3 to 512, 9 and 36 anchors' answers, 21 and 84 at the end
        ("faster_rcnn_resnet101", 44_549_160 - 2_049_000 + 512 * (9 * 1024 + 1) + 45 * 513 + 105 * 2049),
        ("rfcn_resnet101", 44_549_160 - 2_049_000 + 512 * (9 * 1024 + 1) + 45 * 513 + 1024 * 2049 + 49 * 25 * 1025),
    ],
)
def test_parameters(name: str, params: int) -> None:
    assert next(row.params for row in zoo.list_models() if row.name == name) == params


def test_layer4_of_rfcn_keeps_its_resolution() -> None:
    with torch.device("meta"):
        module = RFCN(num_classes=3).eval()
        shared = module.trunk(torch.zeros(1, 3, 64, 96))
        assert shared.shape == (1, 1024, 4, 6)
        assert module.layer4(shared).shape == (1, 2048, 4, 6)


SMALL = {
    "rcnn_alexnet": lambda: RCNN(3, hidden=16, levels=1),
    "fast_rcnn_vgg16": lambda: FastRCNN(3, hidden=16, levels=2),
    "faster_rcnn_resnet101": lambda: FasterRCNN(3, proposals=6, blocks=(1, 2, 2, 1), width=32),
    "rfcn_resnet101": lambda: RFCN(3, proposals=6, blocks=(1, 2, 2, 1), width=32),
}


OPEN = {"faster_rcnn_resnet101", "rfcn_resnet101"}
"""Their sizes may stay open; the others lay out a grid for one size."""


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SMALL))
def test_the_graph_finds_the_same_boxes_at_any_batch_and_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of BatchNorm and spread answers from one batch, then batches of 1 and 3 of other images.

    Of the sizes, one has more anchors than candidates (4 x 6 x 9), one fewer (3 x 4 x 9), one is upright.
    """
    monkeypatch.setattr(proposals, "CANDIDATES", 150)
    torch.manual_seed(0)
    module = SMALL[name]().eval()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.train().momentum = 1.0
    with torch.no_grad():
        module(noise(2))
    liven(module.eval(), noise(2))
    session = open_session(export_module(module, (3, *SIZE), dynamic_size=name in OPEN, output_names=OUTPUTS))
    for images, size in ((1, SIZE), (3, SIZE), *([(2, (48, 64)), (1, (100, 70))] if name in OPEN else [])):
        x = noise(images, images, size)
        with torch.no_grad():
            expected = dict(zip(OUTPUTS, (v.numpy() for v in module(x)), strict=True))
        ours, theirs, seen = align(expected, session({"input": x.numpy()}), margin=1e-4)
        assert seen.matched >= images  # six regions an image leave few boxes
        assert seen.unmatched == 0
        # anchors reach 512 pixels, and a hundred random layers leave 0.002 between float32 and float64
        assert np.abs(ours["boxes"] - theirs["boxes"]).max() < 1e-2
        assert set(expected["image"].tolist()) == set(range(images))
