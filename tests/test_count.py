"""Counting parameters and multiply-adds, by hand and against torch.utils.flop_counter (2 FLOPs are one MAC)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgecnn.layers.convolution import TrueConv2d
from edgecnn.layers.local import LocalConv1d, LocalConv2d
from edgecnn.layers.padding import Conv2d
from edgecnn.layers.tiled import TiledConv1d, TiledConv2d
from edgecnn.networks import zoo
from edgecnn.numbers.count import count, walked
from edgecnn.numbers.layer_table import layer_name

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
    (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), (4, 5, 5), 6 * 9 * 4 * 9),
    (nn.utils.parametrizations.spectral_norm(nn.Linear(7, 5)), (7,), 35),  # its power iteration is no work of an input
    (nn.GRU(5, 3, batch_first=True), (7, 5), 7 * 3 * 3 * (5 + 3)),
    (nn.RNN(5, 3, bidirectional=True, batch_first=True), (7, 5), 7 * 2 * 3 * (5 + 3)),
    (nn.GRUCell(5, 3), (5,), 3 * 3 * (5 + 3)),
    (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), (3, 4, 4), 0),
]


@pytest.mark.parametrize(("module", "shape", "macs"), LAYERS, ids=lambda v: type(v).__name__)
def test_layers_by_hand_and_by_torchs_counter(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count(module, shape).macs == macs
    with FlopCounterMode(display=False) as counter:
        module.eval()(torch.zeros(1, *shape))
    assert counter.get_total_flops() == 2 * macs


def test_a_tiled_layer_is_what_it_is_defined_as_and_not_what_pads_its_last_turn() -> None:
    """7 x 7 outputs in turns of two: torch and the graph compute 8 x 8."""
    layer = TiledConv2d(4, 6, 3, 2)
    assert count(layer, (4, 7, 7)).macs == 6 * 49 * 4 * 9
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, 4, 7, 7))
    assert counter.get_total_flops() == 2 * 6 * 64 * 4 * 9


class ByName(nn.Module):
    """Layers that are given their input by name, and one that returns more than a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 2, 1), nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(input=self.conv(input=x))[0]


def test_layers_may_be_called_in_any_way() -> None:
    steps, _ = walked(ByName(), (3, 4, 4))
    assert [(step.module, step.op, step.output, step.macs) for step in steps] == [
        ("conv", "Conv2d", (1, 2, 4, 4), 16 * 2 * 3),
        ("pool", "MaxPool2d", (1, 2, 2, 2), 0),
    ]


class Attentive(nn.Module):
    """Layers, layers that answer with tuples, and work of its own between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 8, 3, padding=1))
        self.kernel = nn.Parameter(torch.ones(8, 4, 1))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.lstm = nn.LSTM(8, 3, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.conv1d(self.conv(x), self.kernel, groups=2).transpose(1, 2)
        y = self.encoder(self.attention(y, y, y)[0])
        state, _ = self.lstm(y)
        return state @ state.transpose(1, 2)


ATTENTION = 5 * 8 * 24 + 2 * (2 * 5 * 5 * 4) + 5 * 8 * 8
"""Queries, keys and values of 5 places; 2 heads of 4; what goes out."""
STEPS = [
    ("conv", "Conv1d", 5 * 8 * 6 * 3),
    ("", "functional", 5 * 8 * 4),
    ("attention", "MultiheadAttention", ATTENTION),
    ("encoder.self_attn", "MultiheadAttention", ATTENTION),
    ("encoder.linear1", "Linear", 5 * 8 * 12),
    ("encoder.linear2", "Linear", 5 * 8 * 12),
    ("lstm", "LSTM", 5 * 12 * ((8 + 3) + (3 + 3))),
    ("", "functional", 5 * 5 * 3),
]


def test_work_is_told_by_the_layer_that_does_it_and_what_no_layer_does_is_functional() -> None:
    module = Attentive()
    before = torch.backends.mha.get_fastpath_enabled()
    steps, _ = walked(module, (6, 5))
    assert [(step.module, step.op, step.macs) for step in steps if step.macs] == STEPS
    assert torch.backends.mha.get_fastpath_enabled() is before
    assert sum(step.params for step in steps) == sum(p.numel() for p in module.parameters())


def test_the_lines_of_the_table_add_up_to_the_total() -> None:
    net = nn.Sequential(LocalConv1d(2, 4, 9, 3), TiledConv1d(4, 6, 3, 2), Attentive())  # 7 places, in turns of 2
    parts = [part for step in walked(net, (2, 9))[0] for part in step.parts]
    assert sum(part.macs or 0 for part in parts) == count(net, (2, 9)).macs
    names = [layer_name(part) for part in parts]
    assert names == ["local3-4", "tiled3-6", "conv3-8", "conv1-8/g2", "fc", "matmul", "matmul", "fc", "fc", "matmul",
                     "matmul", "fc", "fc", "fc", "lstm-3", "lstm-3", "matmul"]  # fmt: skip


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
