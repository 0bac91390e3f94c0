"""The worked numbers of the lecture decks come out of ONNX Runtime exactly, not only out of PyTorch.

All are sums of few products of quarters and small integers, which float32 holds exactly: every comparison is `==`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn.layers.convolution import TrueConv2d
from edgecnn.layers.padding import Conv2d, Mode
from edgecnn.numbers.count import count
from edgecnn.numbers.inspect import inspect
from exported import exported, run_onnx, run_torch
from exporters.torch_export import export_module

IMAGE = [[1, 0.5, 1, 0], [0, 0.25, 0.5, 1], [1, 0.25, 0, 1], [0.5, 0, 1, 1]]
FILTER = [[1, 0], [0, 2]]
CORRELATED = [[1.5, 1.5, 3], [0.5, 0.25, 2.5], [1, 2.25, 2]]

F_IMAGE = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
G_KERNEL = [[2, 1, 0], [0, 2, 2], [2, 1, 0]]
VALID = [[12, 12, 17], [10, 17, 19], [9, 6, 14]]
SAME = [[6, 14, 17, 11, 3], [14, 12, 12, 17, 11], [8, 10, 17, 19, 13], [11, 9, 6, 14, 12], [6, 4, 4, 6, 4]]
"""The deck prints 5, 9 and 8 in the last column of rows 2 to 4, which its own image and kernel do not give."""


def sliding(kind: type[Conv2d], kernel: list, mode: Mode) -> nn.Module:
    layer = kind(1, 1, len(kernel), padding=mode, bias=False)
    layer.weight.data = torch.tensor(kernel, dtype=torch.float32)[None, None]
    return layer


def answers(layer: nn.Module, image: list) -> list[list]:
    """Of PyTorch and of ONNX Runtime, as nested lists."""
    x = np.array(image, np.float32)[None, None]
    (made,) = run_onnx(exported(layer, x.shape[1:]), x)
    return [run_torch(layer, x)[0, 0].tolist(), made[0, 0].tolist()]


def test_cross_correlation_of_the_4x4_image() -> None:
    assert answers(sliding(Conv2d, FILTER, "valid"), IMAGE) == [CORRELATED, CORRELATED]


def test_true_convolution_of_the_4x4_image_is_another_result() -> None:
    """Flipped, the filter is [[2, 0], [0, 1]]: 2 * 1 + 1 * .25 in the first place."""
    flipped = [[2.25, 1.5, 3], [0.25, 0.5, 2], [2, 1.5, 1]]
    assert answers(sliding(TrueConv2d, FILTER, "valid"), IMAGE) == [flipped, flipped]


@pytest.mark.parametrize(("mode", "result"), [("valid", VALID), ("same", SAME)])
def test_true_convolution_of_the_5x5_image(mode: Mode, result: list) -> None:
    assert answers(sliding(TrueConv2d, G_KERNEL, mode), F_IMAGE) == [result, result]
    turned = [row[::-1] for row in G_KERNEL[::-1]]
    assert answers(sliding(Conv2d, turned, mode), F_IMAGE) == [result, result]


def test_the_full_convolution_holds_the_others() -> None:
    full = np.array(answers(sliding(TrueConv2d, G_KERNEL, "full"), F_IMAGE)[1])
    assert full.shape == (7, 7)
    assert full[1:-1, 1:-1].tolist() == SAME
    assert full[2:-2, 2:-2].tolist() == VALID
    assert full.sum() == np.sum(F_IMAGE) * np.sum(G_KERNEL)  # every pixel meets every tap


@pytest.mark.parametrize(
    ("layer", "shape", "weights", "biases"),
    [
        (nn.Linear(1000, 1000), (1000, 1, 1), 1_000_000, 1000),
        (nn.Linear(100 * 100 * 3, 1000, bias=False), (3, 100, 100), 30_000_000, 0),
        (nn.Linear(16, 9, bias=False), (1, 4, 4), 144, 0),
        (nn.Conv2d(1, 1, 2, bias=False), (1, 4, 4), 4, 0),
    ],
    ids=["1000 to 1000", "100x100x3 to 1000", "16 to 9, fully connected", "16 to 9, as a 2x2 convolution"],
)
def test_weights_are_counted_as_in_the_decks(layer: nn.Module, shape, weights, biases, tmp_path) -> None:
    """By the counter of the PyTorch module and by `inspect` of the ONNX file."""
    module = layer if isinstance(layer, nn.Conv2d) else nn.Sequential(nn.Flatten(), layer)
    made = count(module, shape)
    assert made.params == weights + biases
    assert made.macs == (4 * 9 if isinstance(layer, nn.Conv2d) else weights)
    path = tmp_path / "net.onnx"
    model = export_module(module, shape)
    path.write_bytes(model.SerializeToString())
    seen = inspect(path)
    assert (seen.params, seen.macs) == (weights + biases, made.macs)
    (answer,) = run_onnx(model, np.ones((1, *shape), np.float32))
    assert answer.size == (1000 if biases or weights > 1000 else 9)
