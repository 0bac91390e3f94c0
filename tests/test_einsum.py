"""The multiply-adds of an einsum by hand, and beside those of the products that torch makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgecnn.numbers.einsum import einsum_macs
from edgecnn.numbers.inspect import inspect_model
from small_nets import model

CASES = [
    ("ij,jk->ik", [(2, 3), (3, 4)], 2 * 3 * 4),
    ("ij,jk", [(2, 3), (3, 4)], 2 * 3 * 4),  # without an arrow: what is there once, stays
    ("nkp,pok->npo", [(2, 9, 10), (10, 8, 9)], 2 * 9 * 10 * 8),
    ("bhqd,bhkd->bhqk", [(1, 4, 5, 8), (1, 4, 6, 8)], 4 * 5 * 6 * 8),
    ("...ij,...jk->...ik", [(2, 3, 4, 5), (2, 3, 5, 6)], 2 * 3 * 4 * 5 * 6),
    ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 5)], 2 * 3 * 4 + 2 * 4 * 5),  # pair by pair from the left
    ("nchw,nc->nchw", [(1, 2, 3, 3), (1, 2)], 0),  # it scales
    ("i,j->ij", [(3,), (4,)], 0),
    ("ijk->ik", [(2, 3, 4)], 0),  # a sum
    ("ij,jk->i", [(2, 3), (3, 4)], 2 * 3),  # k is summed before they meet
    ("i,i->", [(7,), (7,)], 7),
]


@pytest.mark.parametrize(("equation", "shapes", "macs"), CASES)
def test_by_hand(equation: str, shapes: list[tuple[int, ...]], macs: int) -> None:
    assert einsum_macs(equation, shapes) == macs


@pytest.mark.parametrize(("equation", "shapes", "macs"), CASES)
def test_as_torch_computes_it(equation: str, shapes: list[tuple[int, ...]], macs: int) -> None:
    with torch.backends.opt_einsum.flags(enabled=False), FlopCounterMode(display=False) as counter:
        torch.einsum(equation, *[torch.zeros(shape) for shape in shapes])
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize("shapes", [[(2, 3), None], [(2, 3)], [(2, 3, 4), (3, 4)]])
def test_what_is_not_known_or_does_not_fit_is_unknown(shapes: list[tuple[int, ...] | None]) -> None:
    assert einsum_macs("ij,jk->ik", shapes) is None


def test_a_node_is_counted_and_its_weights_are_in_the_table() -> None:
    graph = model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[1, 9, 10] x) => (float[1, 10, 8] y) '
        '{ y = Einsum <equation = "nkp,pok->npo"> (x, w) }',
        w=np.ones((10, 8, 9), np.float32),
    )
    found = inspect_model(graph, "e", 0)
    assert (found.macs, found.table.macs, found.table.weights) == (720, 720, 720)
