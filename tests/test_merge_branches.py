"""exporters/passes/merge_branches.py: parallel convolutions become one; oracle: ONNX Runtime on the graph as it was."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgecnn.float_passes import FLOAT_PASSES, run_pass
from exporters.base import PassResult
from exporters.graph import op_counts
from exporters.passes import merge_branches
from exporters.passes.merge_branches import merged, scaling
from exporters.searching.blocks import Conv
from exporters.torch_export import export_module
from pass_examples import build, draw, statistics
from runtimes.parity import compare
from runtimes.session import open_session, random_feeds

SNR_DB = 110.0
"""Sums of some 50 products in another order keep about 135 dB."""


def conv(name: str, kernel: str, pads: str, more: str = "") -> str:
    return f"{name} = Conv <pads: ints = {pads}{more}> (x, {kernel})"


THREE, ONE = conv("a", "w33", "[1, 1, 1, 1]"), conv("b", "w11", "[0, 0, 0, 0]")
WEIGHTS = {
    f"w{kh}{kw}": draw(6, 6, kh, kw, seed=kh * 9 + kw) for kh, kw in ((1, 1), (3, 3), (5, 5), (1, 3), (3, 1), (2, 2))
}


def net(body: str, outs: str = "float[N,6,A,B] y") -> onnx.ModelProto:
    model = build(f"g (float[N,6,9,8] x) => ({outs}) {{ {body} }}", {**WEIGHTS, **statistics(6)})
    for tensor in [t for t in model.graph.initializer if not any(t.name in n.input for n in model.graph.node)]:
        model.graph.initializer.remove(tensor)
    return model


def run(model: onnx.ModelProto) -> PassResult:
    result = merge_branches.run(model)
    onnx.checker.check_model(result.model, full_check=True)
    sessions = [open_session(m, optimize=False) for m in (model, result.model)]
    compare(*sessions, [random_feeds(sessions[0].inputs, batch=2, seed=1)]).require(snr_db=SNR_DB)
    return result


MERGED = {
    "1x1 beside 3x3": net(f"{THREE} {ONE} y = Add (a, b)"),
    "a BatchNormalization first": net(f"{THREE} b = BatchNormalization (x, s, h, m, v) y = Add (b, a)"),
    "four in a tree": net(
        f"{THREE} {ONE} c = BatchNormalization (x, s, h, m, v) {conv('d', 'w55', '[2, 2, 2, 2]')} "
        "e = Add (a, b) f = Add (c, d) y = Add (e, f)"
    ),
    "a cross in a square": net(
        f"{THREE} {conv('b', 'w13', '[0, 1, 0, 1]')} {conv('c', 'w31', '[1, 0, 1, 0]')} d = Add (b, c) y = Add (a, d)"
    ),
    "padding on one side": net(f"{conv('a', 'w22', '[1, 1, 0, 0]')} {ONE} y = Add (a, b)"),
    "padding on the other side": net(f"{conv('a', 'w22', '[0, 0, 1, 1]')} {ONE} y = Add (a, b)"),
    "strides": net(
        f"{conv('a', 'w33', '[1, 1, 1, 1]', ', strides: ints = [2, 1]')} "
        f"{conv('b', 'w11', '[0, 0, 0, 0]', ', strides: ints = [2, 1]')} y = Add (a, b)"
    ),
    "both alike": net(f"{THREE} b = Conv <pads: ints = [1, 1, 1, 1]> (x, w33) y = Add (a, b)"),
    "a residual around them stays": net(f"{THREE} {ONE} c = Add (a, b) y = Add (c, x)"),
}


@pytest.mark.parametrize("name", MERGED)
def test_branches_are_one_convolution(name: str) -> None:
    counts = op_counts(run(MERGED[name]).model)
    assert counts == {"Conv": 1, **({"Add": 1} if "residual" in name else {})}


APART = {
    "of two tensors": (net(f"{THREE} n = Neg (x) b = Conv (n, w11) y = Add (a, b)"), ""),
    "a branch is read elsewhere": (
        net(f"{THREE} {ONE} y = Add (a, b) z = Neg (b)", "float[N,6,A,B] y, float[N,6,A,B] z"),
        "",
    ),
    "a branch is an output": (net(f"{THREE} {ONE} y = Add (a, b)", "float[N,6,A,B] y, float[N,6,A,B] a"), ""),
    "x itself": (net(f"{THREE} y = Add (a, x)"), ""),
    "BatchNormalizations alone": (
        net("a = BatchNormalization (x, s, h, m, v) b = BatchNormalization (x, s, h, m, v) y = Add (a, b)"),
        "",
    ),
    "twice the same": (net(f"{THREE} y = Add (a, a)"), ""),
    "dilated": (
        net(f"{conv('a', 'w33', '[2, 2, 2, 2]', ', dilations: ints = [2, 2]')} {ONE} y = Add (a, b)"),
        "a branch is dilated",
    ),
    "no kernel covers the other": (
        net(f"{conv('a', 'w13', '[0, 1, 0, 1]')} {conv('b', 'w31', '[1, 0, 1, 0]')} y = Add (a, b)"),
        "no kernel of its branches covers all others",
    ),
    "one row that is broadcast": (
        net("a = Conv (x, w11) b = Conv <strides: ints = [9, 8]> (x, w11) y = Add (a, b)"),
        "its branches differ in strides",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "reason"), APART.values(), ids=APART)
def test_left_alone(model: onnx.ModelProto, reason: str) -> None:
    result = run(model)
    assert not result.modified
    assert result.model == model
    assert [kept.reason for kept in result.kept] == ([reason] if reason else [])


def test_outputs_of_another_size_are_not_added_up() -> None:
    """Without padding the 3x3 gives 1 x 1 for a picture of 3 x 3, which an Add would spread over the other's."""
    wide, narrow = Conv(draw(4, 4, 1, 1), None), Conv(draw(4, 4, 3, 3), None)
    assert merged([narrow, wide]) == "no kernel of its branches covers all others"


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_the_kernel_that_scales(group: int) -> None:
    scale, shift = draw(8), draw(8, seed=1)
    kernel = scaling(scale, shift, group)
    x = torch.from_numpy(draw(2, 8, 3, 3))
    assert kernel.bias is not None
    got = torch.conv2d(x, torch.from_numpy(kernel.weight), torch.from_numpy(kernel.bias), groups=group)
    np.testing.assert_array_equal(got.numpy(), (x.numpy() * scale[:, None, None] + shift[:, None, None]))


class Block(nn.Module):
    """RepVGG's, as it is trained."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.wide = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(channels)
        )
        self.narrow = nn.Sequential(
            nn.Conv2d(channels, channels, 1, groups=groups, bias=False), nn.BatchNorm2d(channels)
        )
        self.identity = nn.BatchNorm2d(channels)
        for norm in (self.wide[1], self.narrow[1], self.identity):
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.normal_(norm.running_mean)
            nn.init.normal_(norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.wide(x) + self.narrow(x) + self.identity(x))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_what_pytorch_trains_is_deployed_as_plain_convolutions(groups: int) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(Block(8, groups), Block(8, groups)).eval()
    model = export_module(module, (8, 7, 7))
    for name in FLOAT_PASSES:
        model, _ = run_pass(name, model)
    assert op_counts(model) == {"Conv": 2, "Relu": 2}
    x = torch.randn(2, 8, 7, 7)
    with torch.no_grad():
        expected = {"output": module(x).numpy()}
    compare(lambda _: expected, open_session(model), [{"input": x.numpy()}]).require(snr_db=SNR_DB)
