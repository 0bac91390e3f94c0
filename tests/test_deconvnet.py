"""DeconvNet is table 1 of its paper, and its unpooling is led by the maxima of the way down."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgecnn.models.deconvnet import DeconvNet
from edgecnn.networks import zoo
from exported import exported, normal, run_onnx, run_torch, seeded
from exporters.graph import op_counts

TINY = ((4, 4), (6, 6), (8, 8, 8), (10, 10, 10), (12, 12, 12))
TABLE = [
    *[("Conv2d", 224, 64)] * 2, *[("Conv2d", 112, 128)] * 2, *[("Conv2d", 56, 256)] * 3, *[("Conv2d", 28, 512)] * 3,
    *[("Conv2d", 14, 512)] * 3, ("Conv2d", 1, 4096), ("Conv2d", 1, 4096), ("ConvTranspose2d", 7, 512),
    *[("ConvTranspose2d", 14, 512)] * 3, *[("ConvTranspose2d", 28, 512)] * 2, ("ConvTranspose2d", 28, 256),
    *[("ConvTranspose2d", 56, 256)] * 2, ("ConvTranspose2d", 56, 128), ("ConvTranspose2d", 112, 128),
    ("ConvTranspose2d", 112, 64), *[("ConvTranspose2d", 224, 64)] * 2, ("Conv2d", 224, 21),
]  # fmt: skip
"""(layer, side, channels) of the paper's table 1, in its order."""


def test_table_1_and_252_million_parameters() -> None:
    seen: list[tuple[str, int, int]] = []
    with torch.device("meta"):
        network = zoo.find("deconvnet").build(num_classes=21).eval()
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                layer.register_forward_hook(lambda m, _x, y: seen.append((type(m).__name__, y.shape[2], y.shape[1])))
        assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 21, 224, 224)
    assert seen == TABLE
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == 252  # "about 252M", section 3.2


@pytest.fixture(scope="module")
def tiny() -> torch.nn.Module:
    network = seeded(DeconvNet, 3, hidden=16, stages=TINY, fc_kernel=2)
    with torch.no_grad():  # live statistics: with the initial ones nothing reaches the end
        for norm in network.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.momentum = 1.0
        network.train()(torch.from_numpy(normal(4, 3, 96, 96, seed=1)))
    return network.eval()


def test_the_graph_unpools_with_the_indices_of_every_image(tiny: torch.nn.Module) -> None:
    """A batch, so that places of one image cannot serve another; a size that pooling does not halve evenly, too."""
    model = exported(tiny, (3, 70, 64))
    ops = op_counts(model)
    assert (ops["MaxPool"], ops["MaxUnpool"]) == (5, 5)
    x = normal(3, 3, 70, 64)
    wanted = run_torch(tiny, x)
    assert wanted.shape == (3, 3, 70, 64)
    # 29 layers of sums of up to 100 products; values near 1
    np.testing.assert_allclose(run_onnx(model, x)[0], wanted, rtol=0, atol=1e-3 * float(np.abs(wanted).max()))
    np.testing.assert_allclose(run_onnx(model, x[1:2])[0], wanted[1:2], rtol=0, atol=1e-3 * float(np.abs(wanted).max()))


def test_an_open_graph_answers_every_size(tiny: torch.nn.Module) -> None:
    model = exported(tiny, (3, 64, 64), size=True)
    for size in ((64, 64), (97, 70)):
        x = normal(2, 3, *size)
        wanted = run_torch(tiny, x)
        limit = 1e-3 * float(np.abs(wanted).max())  # as above
        np.testing.assert_allclose(run_onnx(model, x)[0], wanted, rtol=0, atol=limit)
