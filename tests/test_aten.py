"""Operators are counted as torch.utils.flop_counter counts them, and as by hand where it knows none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgecnn.numbers.aten import Operators

Call = Callable[..., torch.Tensor]
SHARED: list[tuple[Call, list[tuple[int, ...]]]] = [
    (F.conv2d, [(1, 4, 9, 9), (6, 4, 3, 5)]),
    (lambda x, w: F.conv1d(x, w, stride=2, dilation=2, groups=2), [(1, 4, 19), (6, 2, 3)]),
    (lambda x, w: F.conv_transpose2d(x, w, stride=2, groups=2), [(1, 4, 5, 5), (4, 3, 2, 2)]),
    (F.linear, [(1, 7, 5), (3, 5)]),
    (torch.matmul, [(5, 7), (2, 7, 3)]),
    (torch.matmul, [(2, 4, 5, 7), (7, 3)]),
    (lambda x, y: torch.einsum("nkp,pok->npo", x, y), [(1, 9, 10), (10, 8, 9)]),
    (lambda b, x, y: torch.baddbmm(b, x, y), [(2, 3, 5), (2, 3, 4), (2, 4, 5)]),
    (lambda x, y: F.relu(x + y).mean((2, 3)), [(1, 2, 4, 4), (1, 2, 4, 4)]),
]
BY_HAND: list[tuple[Call, list[tuple[int, ...]], int]] = [
    (torch.mv, [(3, 5), (5,)], 15),
    (torch.dot, [(7,), (7,)], 7),
    (F.bilinear, [(2, 3), (2, 4), (5, 3, 4)], 2 * (5 * 3 * 4 + 5 * 4)),
    (F.scaled_dot_product_attention, [(1, 4, 5, 8), (1, 4, 6, 8), (1, 4, 6, 8)], 4 * 5 * 6 * (8 + 8)),
]


def counted(call: Call, given: list[torch.Tensor], weights: list[torch.Tensor] | None = None) -> int:
    total = 0

    def add(product: object) -> None:
        nonlocal total
        total += product.macs  # type: ignore[attr-defined]

    with torch.no_grad(), Operators(weights or [], add):
        call(*given)
    return total


@pytest.mark.parametrize(("call", "shapes"), SHARED)
def test_as_torchs_counter(call: Call, shapes: list[tuple[int, ...]]) -> None:
    given = [torch.zeros(shape) for shape in shapes]
    with FlopCounterMode(display=False) as counter:
        call(*given)
    assert 2 * counted(call, given) == counter.get_total_flops()


@pytest.mark.parametrize(("call", "shapes", "macs"), BY_HAND)
def test_by_hand(call: Call, shapes: list[tuple[int, ...]], macs: int) -> None:
    assert counted(call, [torch.zeros(shape) for shape in shapes]) == macs


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("kind", "gates"), [(nn.GRU, 3), (nn.LSTM, 4), (nn.RNN, 1)])
def test_recurrent_layers_are_their_matrices_at_every_step(kind: type[nn.RNNBase], gates: int, device: str) -> None:
    """Two layers in two directions: 5 or 2 x 3 inputs and a state of 3, at 7 steps of 2 sequences."""
    with torch.device(device):
        layer = kind(5, 3, 2, bidirectional=True).eval()  # type: ignore[call-arg]
        macs = counted(layer, [torch.zeros(7, 2, 5)], list(layer.parameters()))
    assert macs == 7 * 2 * 2 * gates * 3 * ((5 + 3) + (6 + 3))


def test_under_inference_mode_operators_come_whole_and_count_all_the_same() -> None:
    def call(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return F.conv2d(x, w)

    assert counted(call, [torch.zeros(1, 2, 4, 4), torch.zeros(3, 2, 3, 3)]) == 3 * 4 * 18


def test_what_comes_of_weights_alone_counts_nothing_until_an_input_is_in_it() -> None:
    weight, kept, given = torch.ones(4, 4), torch.zeros(4, 4), torch.ones(4, 4)

    def call(x: torch.Tensor) -> torch.Tensor:
        kernel = weight @ weight.t()  # the same for every input
        kept.copy_(x)  # a state: no weight any more
        return (x @ kernel) @ (weight @ kept)

    assert counted(call, [given], [weight, kept]) == 3 * 64


def test_a_state_of_zeros_that_forward_makes_is_no_weight() -> None:
    weight = torch.ones(4, 4)
    assert counted(lambda x: torch.zeros(1, 4) @ weight + x, [torch.ones(1, 4)], [weight]) == 16
