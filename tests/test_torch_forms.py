"""Layers that torch's exporter does not know answer in ONNX what they answer in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from exporters.graph import op_counts
from exporters.torch_export import export_module, module_runner
from exporters.torch_forms import kernel_of, windows
from runtimes.base import BadInput, Tensors
from runtimes.session import open_session

Call = Callable[[torch.Tensor], torch.Tensor | tuple[torch.Tensor, ...]]
SHAPE = (3, 13, 10)


class Net(nn.Module):
    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        return self.call(x)


def answers(call: Call, shape: tuple[int, ...] = SHAPE) -> tuple[dict[str, int], list[tuple[np.ndarray, np.ndarray]]]:
    """The operators of the graph, and each output as ONNX Runtime and as PyTorch have it, on three samples."""
    module = Net(call)
    graph = export_module(module, shape)
    session = open_session(graph)
    names = [info.name for info in session.outputs]
    feeds: Tensors = {"input": np.random.default_rng(3).standard_normal((3, *shape)).astype(np.float32)}
    expected = module_runner(module, names)(feeds)
    got = session(feeds)
    return dict(op_counts(graph)), [(got[name], expected[name]) for name in names]


def same(call: Call, shape: tuple[int, ...] = SHAPE, atol: float = 0.0) -> dict[str, int]:
    ops, pairs = answers(call, shape)
    for got, expected in pairs:
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=0, atol=atol)
    return ops


@given(st.integers(1, 30), st.integers(1, 8))
def test_the_windows_are_those_of_torch(size: int, count: int) -> None:
    """The oracle finds the largest of each window of 0, 1, 2 ...: its last place; of the negatives, its first."""
    count = min(size, count)
    places = torch.arange(size, dtype=torch.float32)[None]
    ends = functional.adaptive_max_pool1d(places, count)[0] + 1
    starts = -functional.adaptive_max_pool1d(-places, count)[0]
    found = windows(size, count)
    assert [(w.start, w.stop) for w in found] == list(zip(starts.int().tolist(), ends.int().tolist(), strict=True))
    kernel = kernel_of(found)
    assert (kernel is not None) == (
        len({len(w) for w in found}) == 1 and len({b.start - a.start for a, b in pairwise(found)}) <= 1
    )


@pytest.mark.parametrize("size", [1, 4, (4, 5), (5, 7), (13, 3)])
def test_an_adaptive_max_pool_of_any_size(size: int | tuple[int, int]) -> None:
    pool = nn.AdaptiveMaxPool2d(size)
    ops = same(lambda x: pool(x))
    assert "ArgMax" not in ops, "nobody asked for the indices"


def test_the_pyramid_of_spp_needs_no_gather() -> None:
    """13x13 into 4x4: kernel 4, stride 3, as He et al. 2014 has it for 3x3 and 2x2."""
    ops = same(lambda x: functional.adaptive_max_pool2d(x, 4), (3, 13, 13))
    assert ops == {"MaxPool": 1}


def test_an_adaptive_max_pool_tells_where_it_found_the_largest() -> None:
    same(lambda x: functional.adaptive_max_pool2d(x, (5, 7), return_indices=True))
    same(lambda x: functional.adaptive_max_pool3d(x, (2, 3, 4), return_indices=True), (2, 5, 7, 6))


def test_an_adaptive_max_pool_of_open_size_is_told() -> None:
    module = Net(lambda x: functional.adaptive_max_pool2d(x, (5, 7)))
    with pytest.raises(BadInput, match=r"adaptive max pool, size open: use edgecnn\.layers"):
        export_module(module, SHAPE, dynamic_size=True)


@pytest.mark.parametrize("keepdim", [False, True])
def test_the_kth_smallest_and_the_median(keepdim: bool) -> None:
    same(lambda x: torch.kthvalue(x, 3, dim=2, keepdim=keepdim))
    same(lambda x: x.median(dim=3, keepdim=keepdim))  # of ten numbers: the fifth
    same(lambda x: x.median(2)[0])


def test_a_median_along_an_open_axis_is_told() -> None:
    with pytest.raises(BadInput, match="a median along an axis of open size"):
        export_module(Net(lambda x: x.median(0)[0]), SHAPE)


def test_a_randomized_leaky_relu_is_a_leaky_relu_outside_of_training() -> None:
    assert same(nn.RReLU()) == {"LeakyRelu": 1}
    same(nn.RReLU(0.3, 0.5))
    with pytest.raises(BadInput, match=r"hand self\.training to it"):
        export_module(Net(lambda x: functional.rrelu(x, training=True)), SHAPE)


def tokens(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    t = x.flatten(2).transpose(1, 2)
    return t, t * 0.5, t + 1


def test_attention_without_heads() -> None:
    attention = functional.scaled_dot_product_attention
    same(lambda x: attention(*tokens(x)), atol=1e-5)
    same(lambda x: attention(*tokens(x), is_causal=True), atol=1e-5)
    same(lambda x: attention(*tokens(x), None, 0.0, True, scale=0.2), atol=1e-5)
    mask = torch.randn(130, 130, generator=torch.Generator().manual_seed(0))
    same(lambda x: attention(*tokens(x), mask), atol=1e-5)
    same(lambda x: attention(*tokens(x), attn_mask=mask[None] > 0), atol=1e-5)
    q = "query", "key", "value"
    same(lambda x: attention(**dict(zip(q, tokens(x), strict=True))), atol=1e-5)


def test_attention_with_heads_stays_as_it_is() -> None:
    def heads(x: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.unflatten(2, (2, 3)).transpose(1, 2) for t in tokens(x))
        return functional.scaled_dot_product_attention(q, k, v)

    same(heads, (6, 5, 4), atol=1e-5)


def test_groups_that_depend_on_the_batch_are_told() -> None:
    def net(x: torch.Tensor) -> torch.Tensor:
        weights = x.mean((2, 3)).reshape(-1, 1, 1, 1) * torch.ones(1, 1, 3, 3)
        return functional.conv2d(x.reshape(1, -1, 13, 10), weights, groups=x.shape[0] * 3).reshape(-1, 3, 11, 8)

    with pytest.raises(BadInput, match="depends on the size of the input; if it is the batch, add --static"):
        export_module(Net(net), SHAPE)
    module = Net(net)
    alone = open_session(export_module(module, SHAPE, dynamic_batch=False))
    feeds: Tensors = {"input": np.random.default_rng(0).standard_normal((1, *SHAPE)).astype(np.float32)}
    np.testing.assert_allclose(alone(feeds)["output"], module_runner(module, ["output"])(feeds)["output"], atol=1e-5)
