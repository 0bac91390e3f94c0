"""U-Net as the paper draws it, padded, at even and odd sizes and at a size that the graph leaves open."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgecnn.models.unet import UNet
from edgecnn.networks import zoo
from exported import exported, normal, run_onnx, run_torch, seeded
from exporters.graph import op_counts


def params(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameters_are_those_of_the_paper_and_of_published_forms() -> None:
    """By hand for the paper's (one channel, two classes); 7,763,041 and 31,037,698 are two widely used U-Nets."""
    widths = (64, 128, 256, 512, 1024)
    wanted = 0
    for before, after in zip((1, *widths), widths, strict=False):  # down: two 3x3 with bias
        wanted += before * after * 9 + after + after * after * 9 + after
    for wide, narrow in zip(widths[:0:-1], widths[-2::-1], strict=True):  # up: a 2x2, then two 3x3 on the concatenation
        wanted += wide * narrow * 4 + narrow + wide * narrow * 9 + narrow + narrow * narrow * 9 + narrow
    wanted += 64 * 2 + 2
    with torch.device("meta"):
        assert params(UNet(2, in_channels=1)) == wanted == 31_030_658
        assert params(UNet(1, width=32, batch_norm=True)) == 7_763_041
        assert params(UNet(2, batch_norm=True)) == 31_037_698
        assert params(zoo.find("unet").build(num_classes=2)) == wanted + 2 * 9 * 64  # two channels more


def test_shapes_of_the_figure() -> None:
    """Figure 1 with padding: widths 64 to 1024, a half of the size each time, skips joined to twice the width."""
    seen: dict[str, tuple[int, ...]] = {}
    with torch.device("meta"):
        network = UNet()
        for name, module in network.named_modules():
            module.register_forward_hook(lambda _m, x, y, name=name: seen.update({name: (*x[0].shape[1:], y.shape[1])}))
        assert network(torch.zeros(1, 3, 512, 512)).shape == (1, 2, 512, 512)
    assert [seen[f"down.{i}"] for i in range(5)] == [
        (3, 512, 512, 64), (64, 256, 256, 128), (128, 128, 128, 256), (256, 64, 64, 512), (512, 32, 32, 1024)
    ]  # fmt: skip
    assert [seen[f"up.{i}"] for i in range(4)] == [
        (1024, 32, 32, 512), (512, 64, 64, 256), (256, 128, 128, 128), (128, 256, 256, 64)
    ]  # fmt: skip
    assert [seen[f"merge.{i}"] for i in range(4)] == [
        (1024, 64, 64, 512), (512, 128, 128, 256), (256, 256, 256, 128), (128, 512, 512, 64)
    ]  # fmt: skip


def test_the_skips_matter_and_come_first() -> None:
    """Without the way through the bottom the finest skip alone still answers, from the first half of the channels."""
    network = seeded(UNet, 2, width=4)
    x = torch.from_numpy(normal(1, 3, 32, 32))
    with torch.no_grad():
        whole = network(x)
        for layer in network.get_submodule("up").children():
            for value in layer.parameters():
                value.zero_()
        alone = network(x)
        network.get_submodule("merge.3.0").get_parameter("weight")[:, :4].zero_()
        nothing = network(x)
    assert float((whole - alone).abs().max()) > 1e-3
    assert float(alone.std()) > 1e-3
    assert float(nothing.std((2, 3)).max()) < 1e-6


def test_an_open_graph_answers_every_size_pixel_by_pixel() -> None:
    network = seeded(UNet, 3, width=4, batch_norm=True)
    model = exported(network, (3, 32, 32), size=True)
    for size in ((32, 32), (33, 47), (16, 31), (50, 40)):
        x = normal(2, 3, *size)
        (answer,) = run_onnx(model, x)
        assert answer.shape == (2, 3, *size)
        # 23 layers of sums of up to 576 products, values near 1
        np.testing.assert_allclose(answer, run_torch(network, x), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("size", "pads"), [((32, 48), 0), ((35, 48), 2)], ids=["halved evenly", "odd"])
def test_a_fixed_size_pads_only_where_pooling_dropped_a_row(size: tuple[int, int], pads: int) -> None:
    """35 rows give 17, 8, 4 and 2: the ways up to 17 and to 35 each lack one."""
    network = seeded(UNet, 3, width=4)
    model = exported(network, (3, *size))
    assert op_counts(model).get("Pad", 0) == pads
    x = normal(1, 3, *size)
    np.testing.assert_allclose(run_onnx(model, x)[0], run_torch(network, x), rtol=0, atol=2e-5)  # as above
