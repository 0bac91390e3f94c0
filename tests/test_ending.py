"""The operator behind an answer, in PyTorch and in ONNX: the same for one network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgecnn.networks.ending import ending_of as torch_ending
from exporters.ending import ending_of
from small_nets import model as onnx_model

X = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, tail: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.tail = nn.Conv2d(4, 6, 1), tail

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tail(self.conv(x))


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        (torch.sigmoid, "Sigmoid"),
        (lambda x: torch.sigmoid(x.mean((2, 3))).squeeze(1), "Sigmoid"),
        (lambda x: torch.sigmoid(x).permute(0, 2, 3, 1).contiguous().flatten(1), "Sigmoid"),
        (lambda x: functional.interpolate(torch.sigmoid(x), scale_factor=2), "Sigmoid"),
        (lambda x: x.sigmoid_(), "Sigmoid"),
        (functional.hardsigmoid, "Sigmoid"),
        (functional.relu, "Relu"),
        (lambda x: x.clamp(0, 300), "Clip"),
        (lambda x: x.flatten(1).softmax(1), "Softmax"),
        (lambda x: torch.sigmoid(x) * 300, ""),  # what comes after changes numbers
        (lambda x: torch.sigmoid(x).mean((2, 3)), ""),
        (lambda x: x, ""),
    ],
)
def test_the_last_operation_of_a_module_is_seen(tail: Callable[[torch.Tensor], torch.Tensor], found: str) -> None:
    assert torch_ending(Net(tail), X) == found


def test_what_cannot_be_seen_is_left_open() -> None:
    several = Net(lambda x: (torch.sigmoid(x), x))  # type: ignore[arg-type, return-value]
    broken = Net(lambda x: x.no_such_thing())  # type: ignore[no-any-return]
    assert (torch_ending(several, X), torch_ending(broken, X)) == ("", "")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("y = Sigmoid (x)", "Sigmoid"),
        ("s = Sigmoid (x)\n t = Transpose <perm: ints = [0, 1]> (s)\n y = Identity (t)", "Sigmoid"),
        ("y = HardSigmoid (x)", "Sigmoid"),
        ("s = Sigmoid (x)\n y = Add (s, x)", "Add"),
        ("y = Softmax (x)", "Softmax"),
        ("y = Identity (x)", ""),
    ],
)
def test_the_last_operator_of_a_graph(body: str, found: str) -> None:
    text = f'<ir_version: 9, opset_import: ["" : 18]> g (float[N,5] x) => (float[N,5] y) {{ {body} }}'
    assert ending_of(onnx_model(text)) == found
