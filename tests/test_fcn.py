"""FCN is a classifier that slides: VGG's weights, the Caffe net's arithmetic, every size; torchvision's ResNet form."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgecnn.models.fcn import FCN, bilinear, convolutional, upscore
from edgecnn.models.vgg import VGG
from edgecnn.networks import zoo
from edgecnn.networks.weights import apply_weights
from exported import exported, normal, run_onnx, run_torch, seeded
from torchvision_oracle import torchvision_models

TINY = ((4, 4), (6, 6), (8, 8, 8), (10, 10, 10), (12, 12, 12))
tiny = partial(FCN, hidden=16, stages=TINY)


def test_parameters() -> None:
    """134.5 M: VGG-16 without its last layer (134,260,544), and 21-class scores and up-convolutions without bias."""
    with torch.device("meta"):
        built = {s: sum(p.numel() for p in FCN(s).parameters()) for s in (32, 16, 8)}
    vgg = 134_260_544 + 4096 * 21 + 21
    assert built[32] == vgg + 21 * 21 * 64 * 64
    assert built[16] == vgg + 21 * 21 * (4 * 4 + 32 * 32) + 512 * 21 + 21
    assert built[8] == vgg + 21 * 21 * (2 * 4 * 4 + 16 * 16) + (512 + 256) * 21 + 2 * 21


def test_a_sliding_classifier_gives_the_classifiers_answer() -> None:
    """On one 7x7 map the convolutional VGG is VGG: same weights, same 16 scores, for the whole 224x224 picture."""
    vgg = seeded(VGG, TINY, False, 16, 16)
    network = seeded(tiny, 32, 16)
    state = convolutional(vgg.state_dict())
    state |= {"score_fr.weight": vgg.state_dict()["classifier.6.weight"].reshape(16, 16, 1, 1)}
    network.load_state_dict(network.state_dict() | state | {"score_fr.bias": vgg.state_dict()["classifier.6.bias"]})
    network.get_submodule("features.0").padding = (1, 1)  # type: ignore[assignment]
    scores: list[torch.Tensor] = []
    network.get_submodule("score_fr").register_forward_hook(lambda _m, _x, y: scores.append(y))
    x = normal(2, 3, 224, 224)
    with torch.no_grad():
        network(torch.from_numpy(x))
    assert scores[0].shape == (2, 16, 1, 1)
    # sums of 588 products, the same ones, in another order
    np.testing.assert_allclose(scores[0].numpy()[:, :, 0, 0], run_torch(vgg, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_the_up_convolution_starts_as_bilinear_interpolation(factor: int) -> None:
    """Oracle: torch's own interpolation, away from the border; classes do not mix."""
    layer = upscore(3, factor)
    x = torch.from_numpy(normal(1, 3, 5, 6))
    made = layer(x).detach()
    assert made.shape == (1, 3, factor * 6, factor * 7)
    half = factor // 2
    inner = made[:, :, half : half + 5 * factor, half : half + 6 * factor]
    wanted = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    inside = (..., slice(half, -half), slice(half, -half))
    torch.testing.assert_close(inner[inside], wanted[inside], rtol=0, atol=1e-5)  # sums of 4 products
    assert float(bilinear(factor).sum()) == pytest.approx(factor**2)


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_every_size_is_answered_at_its_own_size(stride: int) -> None:
    """One graph of open size, from 1x1 to no round number at all, against PyTorch."""
    network = seeded(tiny, stride, 5)
    model = exported(network, (3, 40, 40), size=True)
    for size in ((40, 40), (1, 1), (33, 66), (61, 30)):
        x = normal(1, 3, *size)
        (answer,) = run_onnx(model, x)
        assert answer.shape == (1, 5, *size)
        wanted = run_torch(network, x)
        # 16 layers of sums of up to 588 products, against the largest answer
        np.testing.assert_allclose(answer, wanted, rtol=0, atol=2e-5 * float(np.abs(wanted).max()))


@pytest.mark.parametrize(
    ("stride", "path"),
    [(32, "fr"), (16, "fr"), (16, "pool4"), (8, "fr"), (8, "pool4"), (8, "pool3")],
)
def test_every_path_lines_up_with_the_image_to_the_pixel(stride: int, path: str) -> None:
    """A network that only copies answers row r with r: that is what the paddings and crops of the Caffe net are for.

    Averages take the place of maxima, so that a ramp of grey stays the same ramp through pooling and interpolation; one
    path at a time, because a path that was shifted would hide among the others.
    """
    network = tiny(stride, 1, hidden=1, stages=((1, 1), (1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1))).eval()
    features = network.get_submodule("features")
    for name, layer in features.named_children():
        if isinstance(layer, torch.nn.MaxPool2d):
            features.register_module(name, torch.nn.AvgPool2d(2, 2, ceil_mode=layer.ceil_mode))
    with torch.no_grad():
        for name, layer in network.named_modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
                torch.nn.init.zeros_(layer.weight)
                middle = layer.kernel_size[0] // 2
                layer.weight[:, 0, middle, middle] = float(
                    name in (f"score_{path}", "fc6", "fc7") or "features" in name
                )
        ramp = torch.arange(480.0)
        for ways in (ramp[:, None].expand(480, 480), ramp.expand(480, 480)):
            answer = network(torch.stack([ways, 0 * ways, 0 * ways])[None])[0, 0]
            inside = (slice(200, 280), slice(200, 280))  # away from the zeros around the image
            torch.testing.assert_close(answer[inside], ways[inside], rtol=0, atol=0.01)  # sums of values up to 480


# --------------------------------------------------------------------------------------------------------- fcn_resnet50
def test_fcn_resnet50_is_torchvisions() -> None:
    """Names, shapes, and with the same weights the same numbers; a checkpoint with the auxiliary head loads."""
    models = torchvision_models()
    torch.manual_seed(0)
    theirs = models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=True).eval()
    ours = zoo.find("fcn_resnet50").build(num_classes=5).eval()
    own = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("aux_classifier.")}
    assert list(own.items()) == [(k, v.shape) for k, v in ours.state_dict().items()]
    apply_weights(ours, theirs.state_dict(), "torchvision's")  # with the auxiliary head, as published
    x = torch.from_numpy(normal(1, 3, 65, 50))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x)["out"], rtol=0, atol=0)


def test_fcn_resnet50_parameters() -> None:
    with torch.device("meta"):
        ours = sum(p.numel() for p in zoo.find("fcn_resnet50").build(num_classes=21).parameters())
    auxiliary = 1024 * 256 * 9 + 2 * 256 + 256 * 21 + 21
    assert ours + auxiliary == 35_322_218  # torchvision's documentation


def test_fcn_resnet50_keeps_an_eighth_of_the_size() -> None:
    network = zoo.find("fcn_resnet50")
    seen: list[tuple[int, ...]] = []
    with torch.device("meta"):
        module = network.build(num_classes=21)
        module.get_submodule("backbone").register_forward_hook(lambda _m, _x, y: seen.append(tuple(y.shape)))
        assert module(torch.zeros(1, 3, 256, 200)).shape == (1, 21, 256, 200)
    assert seen == [(1, 2048, 32, 25)]


def test_dilation_computes_what_the_strided_network_computes_at_its_places() -> None:
    """The same weights, densely: every second answer of the dilated stage is the strided one's."""
    from edgecnn.models.fcn import dilate
    from edgecnn.models.resnet import Bottleneck, stage

    torch.manual_seed(0)
    strided = stage(Bottleneck, 16, 8, 3, stride=2).eval()
    torch.manual_seed(0)
    dense = stage(Bottleneck, 16, 8, 3, stride=2).eval()
    dilate(dense, 1, 2)
    x = torch.from_numpy(normal(1, 16, 24, 24))
    with torch.no_grad():
        torch.testing.assert_close(dense(x)[:, :, ::2, ::2], strided(x), rtol=0, atol=1e-4)  # three blocks of sums
