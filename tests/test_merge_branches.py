"""exporters/passes/merge_branches.py: parallel convolutions become one; oracle: ONNX Runtime on the graph as it was."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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
DEEP = conv("a", "d33", "[1, 1, 1, 1]", ", group: int = 6")
DEEP_ONE = conv("b", "d11", "[0, 0, 0, 0]", ", group: int = 6")
WEIGHTS = {
    f"w{kh}{kw}": draw(6, 6, kh, kw, seed=kh * 9 + kw) for kh, kw in ((1, 1), (3, 3), (5, 5), (1, 3), (3, 1), (2, 2))
}


WEIGHTS |= {
    "d33": draw(6, 1, 3, 3),
    "d11": draw(6, 1, 1, 1, seed=1),
    "one33": draw(1, 6, 3, 3),
    "g33": draw(6, 2, 3, 3),
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
    "an epsilon of its own": net(f"{THREE} b = BatchNormalization <epsilon = 0.5> (x, s, h, m, v) y = Add (a, b)"),
    "less a BatchNormalization": net(f"{THREE} b = BatchNormalization (x, s, h, m, v) y = Sub (a, b)"),
    "twice the same": net(f"{THREE} y = Add (a, a)"),
    "one branch twice": net(f"{THREE} {ONE} c = Add (a, b) y = Add (b, c)"),
    "added and taken away": net(f"{THREE} b = BatchNormalization (x, s, h, m, v) c = Add (a, b) y = Sub (c, b)"),
    "less a difference": net(f"{THREE} {ONE} c = BatchNormalization (x, s, h, m, v) d = Sub (b, c) y = Sub (a, d)"),
    "taken from a BatchNormalization": net(f"b = BatchNormalization (x, s, h, m, v) {THREE} y = Sub (b, a)"),
    "bias of what is taken away": net(
        "a = Conv <pads: ints = [1, 1, 1, 1]> (x, w33, s) b = Conv (x, w11, h) y = Sub (a, b)"
    ),
    "x beside depthwise": net(f"{DEEP} y = Add (x, a)"),
    "x beside two that are depthwise": net(f"{DEEP} {DEEP_ONE} c = Add (a, b) y = Add (c, x)"),
    "less x": net(f"{DEEP} y = Sub (a, x)"),
    "x that a convolution makes": net(
        "x0 = Conv (x, w11) a = Conv <pads: ints = [1, 1, 1, 1], group: int = 6> (x0, d33) y = Add (x0, a)"
    ),
}


@pytest.mark.parametrize("name", MERGED)
def test_branches_are_one_convolution(name: str) -> None:
    counts = op_counts(run(MERGED[name]).model)
    assert counts == {"Conv": 2 if "makes" in name else 1, **({"Add": 1} if "residual" in name else {})}


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
    "one that the sum and somebody else read": (
        net(f"{THREE} {ONE} c = Add (a, b) y = Add (c, b) z = Neg (b)", "float[N,6,A,B] y, float[N,6,A,B] z"),
        "",
    ),
    "dilated": (
        net(f"{conv('a', 'w33', '[2, 2, 2, 2]', ', dilations: ints = [2, 2]')} {ONE} y = Add (a, b)"),
        "a branch is dilated",
    ),
    "no kernel covers the other": (
        net(f"{conv('a', 'w13', '[0, 1, 0, 1]')} {conv('b', 'w31', '[1, 0, 1, 0]')} y = Add (a, b)"),
        "no kernel of its branches covers all others",
    ),
    "x beside one that is in groups but not depthwise": (
        net(f"{conv('a', 'g33', '[1, 1, 1, 1]', ', group: int = 3')} y = Add (a, x)"),
        "",
    ),
    "x beside a depthwise one of another stride": (
        net(f"{conv('a', 'd33', '[1, 1, 1, 1]', ', group: int = 6, strides: ints = [9, 8]')} y = Add (a, x)"),
        "its branches differ in strides",
    ),
    "x beside a dense one and a depthwise one": (
        net(f"{DEEP} {ONE} n = Neg (a) c = Add (n, b) y = Add (c, x)"),
        "",
    ),
    "x twice beside nothing": (net("a = Add (x, x) y = Sub (a, x)"), ""),
    "a sum of BatchNormalizations of another tensor": (
        net(f"{THREE} n = Neg (x) b = BatchNormalization (n, s, h, m, v) y = Sub (a, b)"),
        "",
    ),
    "one channel that is broadcast": (
        net("a = Conv <pads: ints = [1, 1, 1, 1]> (x, one33) b = BatchNormalization (x, s, h, m, v) y = Add (a, b)"),
        "its branches differ in outputs",
    ),
    "numbers of a BatchNormalization that are computed": (
        net(f"{THREE} k = Abs (s) b = BatchNormalization (x, k, h, m, v) y = Add (a, b)"),
        "its BatchNormalization's numbers are not constant float32",
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
    x = draw(2, 8, 3, 3).astype(np.float64)  # in which the product of two float32 is exact
    assert kernel.bias is not None
    weight, bias = (torch.from_numpy(value.astype(np.float64)) for value in (kernel.weight, kernel.bias))
    got = torch.conv2d(torch.from_numpy(x), weight, bias, groups=group)
    np.testing.assert_array_equal(got.numpy(), x * scale[:, None, None] + shift[:, None, None])


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


def norm(channels: int) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels)
    nn.init.uniform_(made.running_var, 0.5, 2.0)
    nn.init.normal_(made.running_mean)
    nn.init.normal_(made.weight)
    return made


class RepMixer(nn.Module):
    """FastViT's: what a mixer adds to a normalization, scaled and added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.behind, self.identity, self.taken = norm(channels), norm(channels), norm(channels)
        self.scale = nn.Parameter(torch.randn(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale * (self.behind(self.wide(x)) + self.identity(x) - self.taken(x))


class RepViT(nn.Module):
    """A normalization behind the sum, whose input is a branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, groups=channels), norm(channels))
        self.narrow = nn.Conv2d(channels, channels, 1, groups=channels)
        self.behind = norm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.behind(self.wide(x) + self.narrow(x) + x)


@pytest.mark.parametrize("block", [RepMixer, RepViT])
def test_what_stands_behind_a_merged_sum_is_folded_into_it(block: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(block(8), nn.ReLU(), block(8), nn.ReLU()).eval()
    model = export_module(module, (8, 7, 7))
    for name in FLOAT_PASSES:
        model, note = run_pass(name, model)
        assert name != "merge_branches" or "changed" in note
    assert op_counts(model) == {"Conv": 2, "Relu": 2}
    x = torch.randn(2, 8, 7, 7)
    with torch.no_grad():
        expected = {"output": module(x).numpy()}
    compare(lambda _: expected, open_session(model), [{"input": x.numpy()}]).require(snr_db=SNR_DB)


def test_without_the_fold_what_stands_behind_stays() -> None:
    model = net(f"{THREE} {ONE} c = Add (a, b) y = BatchNormalization (c, s, h, m, v)")
    assert op_counts(run_pass("merge_branches", model)[0]) == {"Conv": 1}
    assert op_counts(run_pass("merge_branches", model, fold=False)[0]) == {"Conv": 1, "BatchNormalization": 1}


def test_a_batchnorm_in_training_mode_is_no_branch() -> None:
    """It gives other numbers for every batch; ONNX Runtime does not run it on a CPU, so that only the graph is read."""
    model = net(f"{THREE} b, rm, rv = BatchNormalization <training_mode = 1> (x, s, h, m, v) y = Add (a, b)")
    (kept,) = merge_branches.run(model).kept
    assert kept.reason == "its BatchNormalization is in training mode"


@given(
    kernels=st.lists(st.sampled_from([(1, 1), (3, 3), (1, 3), (3, 1)]), min_size=1, max_size=3),
    signs=st.lists(st.booleans(), min_size=5, max_size=5),
    group=st.sampled_from([1, 2, 6]),
    itself=st.booleans(),
    normalized=st.booleans(),
    nested=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_any_tree_of_branches_keeps_its_function(
    kernels: list[tuple[int, int]],
    signs: list[bool],
    group: int,
    itself: bool,
    normalized: bool,
    nested: bool,
    seed: int,
) -> None:
    """Branches with a 3x3 among them are one convolution, whatever their signs and the shape of the tree."""
    kernels = [(3, 3), *kernels]
    weights = {f"k{i}": draw(6, 6 // group, *kernel, seed=seed + i) for i, kernel in enumerate(kernels)}
    pads = [f"[{kh // 2}, {kw // 2}, {kh // 2}, {kw // 2}]" for kh, kw in kernels]
    lines = [conv(f"c{i}", f"k{i}", pad, f", group: int = {group}") for i, pad in enumerate(pads)]
    leaves = [f"c{i}" for i in range(len(lines))] + ["n"] * normalized + ["x"] * itself
    lines += ["n = BatchNormalization (x, s, h, m, v)"] * normalized
    for i, leaf in enumerate(leaves[1:]):
        operands = (leaf, leaves[0] if i == 0 else f"t{i}")
        left, right = operands if nested else reversed(operands)
        lines.append(f"t{i + 1} = {'Add' if signs[i] else 'Sub'} ({left}, {right})")
    body = " ".join([*lines, f"y = Identity (t{len(leaves) - 1})"])
    result = run(build(f"g (float[N,6,9,8] x) => (float[N,6,A,B] y) {{ {body} }}", {**weights, **statistics(6)}))
    left_over = {"Conv": 1, "Identity": 1}
    if itself and group != 6:  # x stands last in the tree, beside convolutions that are not depthwise
        left_over |= {"Add": 1} if signs[len(leaves) - 2] else {"Sub": 1}
    assert op_counts(result.model) == left_over
