"""Counting parameters and multiply-adds, by hand and against torch.utils.flop_counter (2 FLOPs are one MAC)."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgecnn.layers.convolution import TrueConv2d
from edgecnn.layers.local import LocalConv2d
from edgecnn.layers.padding import Conv2d
from edgecnn.layers.tiled import TiledConv2d
from edgecnn.networks import zoo
from edgecnn.numbers.count import count

LAYERS = [
    # one of each kind that counts: module, input (C, H, W), multiply-adds by hand
    (nn.Conv2d(4, 6, (3, 5), stride=2, padding=1, groups=2), (4, 9, 11), 6 * 5 * 5 * 2 * 15),  # output 5x5
    (nn.Conv2d(8, 8, 3, groups=8), (8, 5, 5), 8 * 9 * 9),  # depthwise, output 3x3
    (nn.ConvTranspose2d(4, 6, 2, stride=2), (4, 3, 5), 4 * 15 * 6 * 4),  # each input element meets each kernel element
    (nn.Linear(7, 5), (2, 3, 7), 2 * 3 * 5 * 7),
    (Conv2d(4, 6, 4, 3, "same"), (4, 9, 8), 6 * 9 * 4 * 16),  # output 3x3
    (TrueConv2d(4, 6, 2), (4, 5, 5), 6 * 25 * 4 * 4),
    (LocalConv2d(4, 6, (5, 6), 3), (4, 5, 6), 6 * 12 * 4 * 9),  # output 3x4
    (TiledConv2d(4, 6, 3, 2), (4, 4, 6), 6 * 24 * 4 * 9),
    (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), (3, 4, 4), 0),
]


@pytest.mark.parametrize(("module", "shape", "macs"), LAYERS, ids=lambda v: type(v).__name__)
def test_layers_by_hand_and_by_torchs_counter(module: nn.Module, shape: tuple[int, int, int], macs: int) -> None:
    assert count(module, shape).macs == macs
    with FlopCounterMode(display=False) as counter:
        module.eval()(torch.zeros(1, *shape))
    assert counter.get_total_flops() == 2 * macs


class ByName(nn.Module):
    """A leaf without weights that is given its input by name, and returns more than a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 2, 1), nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(input=self.conv(x))[0]


def test_layers_that_do_not_count_may_be_called_in_any_way() -> None:
    assert count(ByName(), (3, 4, 4)).macs == 16 * 2 * 3


@pytest.mark.parametrize("name", [row.name for row in zoo.list_models()])
def test_the_zoo_against_torchs_counter(name: str) -> None:
    row = next(row for row in zoo.list_models() if row.name == name)
    with torch.device("meta"):
        module = zoo.find(name).build(num_classes=row.num_classes).eval()
        with FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, *row.input_shape))
    assert counter.get_total_flops() == 2 * row.macs
    assert sum(p.numel() for p in module.parameters()) == row.params


def test_counting_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    assert count(module, (3, 8, 8)).params == 3 * 4 * 9 + 4 + 4 + 4
    assert module.training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not any(layer._forward_hooks for layer in module.modules())


def test_a_shared_layer_counts_its_parameters_once_and_its_work_twice() -> None:
    layer = nn.Conv2d(3, 3, 1, bias=False)
    assert count(nn.Sequential(layer, layer), (3, 4, 4)).params == 9
    assert count(nn.Sequential(layer, layer), (3, 4, 4)).macs == 2 * 9 * 16
