"""Each layer of edgecnn/layers is its formula: a hand-written loop, PyTorch and ONNX Runtime give the same numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx.parser
import pytest
import torch
from onnx import numpy_helper
from scipy import signal
from torch import nn

from edgecnn.layers.adaptive import AdaptiveAvgPool, AdaptiveMaxPool
from edgecnn.layers.convolution import TrueConv1d, TrueConv2d, TrueConv3d
from edgecnn.layers.k_max import DynamicKMaxPool1d, KMaxPool1d
from edgecnn.layers.local import LocalConv1d, LocalConv2d
from edgecnn.layers.padding import MODES, Conv1d, Conv2d, Conv3d, pads
from edgecnn.layers.probabilistic import ProbabilisticMaxPool2d
from edgecnn.layers.tiled import TiledConv1d, TiledConv2d
from edgecnn.layers.unpooling import MaxPoolIndices2d, MaxUnpool2d
from exported import Several, agree, exported, normal, run_onnx, run_torch, same, seeded, simplified
from exporters.graph import op_counts
from runtimes.base import BadInput

SUMS = 2e-6
"""Sums of at most 75 products of about 0.3: float32 leaves 75 * 0.3 * 6e-8 in the worst case."""
Place = tuple[int, ...]


def slid(
    x: np.ndarray, kernel_at: Callable[[Place], np.ndarray], sides: Sequence[Place], stride: Sequence[int]
) -> np.ndarray:
    """y[n, o, i] = sum_c,j x[n, c, i s - p + j] w[o, c, j] in float64; `kernel_at(i)` is w (O, C, k...) at place i."""
    batch, _, *sizes = x.shape
    outputs, _, *kernel = kernel_at((0,) * len(sizes)).shape
    counts = [(n + sum(p) - k) // s + 1 for n, p, k, s in zip(sizes, sides, kernel, stride, strict=True)]
    y = np.zeros((batch, outputs, *counts))
    for place in itertools.product(*map(range, counts)):
        w = kernel_at(place).astype(np.float64)
        for tap in itertools.product(*map(range, kernel)):
            at = [i * s - p[0] + j for i, s, p, j in zip(place, stride, sides, tap, strict=True)]
            if all(0 <= a < n for a, n in zip(at, sizes, strict=True)):
                seen = x[(slice(None), slice(None), *at)]  # (N, C)
                y[(slice(None), slice(None), *place)] += seen @ w[(slice(None), slice(None), *tap)].T
    return y


def hold(made: Sequence[np.ndarray], wanted: Sequence[np.ndarray], atol: float = SUMS) -> None:
    for ours, right in zip(made, wanted, strict=True):
        np.testing.assert_allclose(ours, right, rtol=0, atol=atol)


def numbers(layer: nn.Module, name: str) -> np.ndarray:
    return layer.get_parameter(name).detach().numpy()


# ------------------------------------------------------------------------------------------------------- padding
KERNELS = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (4, 1), (4, 3), (5, 2), (2, 3)]


@pytest.mark.parametrize(("mode", "auto_pad"), [("same", "SAME_UPPER"), ("same_lower", "SAME_LOWER")])
def test_same_is_onnx_auto_pad(mode: str, auto_pad: str) -> None:
    """The oracle is ONNX Runtime's own padding, for nine kernels and strides on every size from 3 to 9."""
    layers = [seeded(Conv1d, 2, 3, kernel, stride, mode) for kernel, stride in KERNELS]
    ours = exported(Several(layers), (2, 5), size=True)
    for size in range(3, 10):
        x = normal(1, 2, size)
        answers = run_onnx(ours, x)
        for (kernel, stride), layer, answer in zip(KERNELS, layers, answers, strict=True):
            oracle = onnx.parser.parse_model(
                '<ir_version: 10, opset_import: ["": 20]> g (float[1,2,N] x) => (float[1,3,M] y) {'
                f'y = Conv<auto_pad = "{auto_pad}", strides = [{stride}]> (x, w, b) }}'
            )
            values = {"w": numbers(layer, "weight"), "b": numbers(layer, "bias")}
            oracle.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
            (wanted,) = run_onnx(oracle, x)
            assert wanted.shape[2] == math.ceil(size / stride), (kernel, stride)
            hold([run_torch(layer, x), answer], [wanted, wanted])


@pytest.mark.parametrize(
    ("kind", "shape", "cases"),
    [
        (Conv1d, (2, 7), [((4,), (2,), "same"), ((4,), (1,), "full"), ((3,), (3,), "valid")]),
        (
            Conv2d,
            (2, 6, 5),
            [
                ((2, 3), (1, 2), "same"),
                ((2, 4), (3, 1), "same_lower"),
                ((3, 2), (2, 2), "full"),
                ((3, 2), (2, 1), "valid"),
                ((1, 1), (1, 1), "same"),
            ],
        ),
        (Conv3d, (1, 4, 5, 3), [((2, 3, 2), (1, 2, 1), "same"), ((2, 2, 3), (1, 1, 2), "full")]),
    ],
    ids=["1-D", "2-D", "3-D"],
)
def test_padded_convolution_is_its_formula(kind: type[nn.Module], shape: Place, cases: list) -> None:
    layers = [seeded(kind, shape[0], 3, *case) for case in cases]
    x = normal(3, *shape)
    for made, layer, (kernel, stride, mode) in zip(agree(layers, x, atol=SUMS), layers, cases, strict=True):
        sides = [pads(*axis, mode) for axis in zip(shape[1:], kernel, stride, strict=True)]
        weight, bias = numbers(layer, "weight"), numbers(layer, "bias")
        hold([made], [slid(x, lambda _, w=weight: w, sides, stride) + bias.reshape(3, *(1,) * len(kernel))])


@pytest.mark.parametrize(("kernel", "stride"), [(2, 1), (3, 2), (4, 3), (1, 2)])
def test_output_sizes_are_exact(kernel: int, stride: int) -> None:
    for size in range(4, 11):
        x = torch.zeros(1, 1, size)
        lengths = {mode: Conv1d(1, 1, kernel, stride, mode)(x).shape[2] for mode in MODES}  # type: ignore[arg-type]
        assert lengths == {
            "valid": (size - kernel) // stride + 1,
            "same": math.ceil(size / stride),
            "same_lower": math.ceil(size / stride),
            "full": (size + kernel - 2) // stride + 1,
        }


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_dilated_and_grouped_same_padding() -> None:
    """Oracle: torch's own padding="same", which it has at stride 1, even kernels included."""
    layer = seeded(Conv2d, 4, 6, (2, 3), padding="same", dilation=(3, 2), groups=2)
    theirs = nn.Conv2d(4, 6, (2, 3), padding="same", dilation=(3, 2), groups=2)
    theirs.load_state_dict(layer.state_dict())
    x = normal(2, 4, 9, 8)
    hold(agree([layer], x, atol=SUMS), [run_torch(theirs, x)])


def test_an_unknown_padding_is_refused() -> None:
    with pytest.raises(BadInput, match="padding sane: is unknown; give one of valid, same, same_lower, full"):
        Conv2d(1, 1, 3, padding="sane")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Conv1d, Conv2d, Conv3d, TrueConv2d])
def test_padding_with_anything_but_zeros_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(BadInput, match="padding_mode reflect: these layers pad with zeros; take torch's own"):
        kind(1, 1, 3, padding_mode="reflect")
    kind(1, 1, 3, padding_mode="zeros")


# ------------------------------------------------------------------------------------------------- true convolution
@pytest.mark.parametrize(
    ("kind", "size", "kernels"),
    [
        (TrueConv1d, (9,), [(4,), (3,)]),
        (TrueConv2d, (6, 7), [(3, 3), (2, 4)]),
        (TrueConv3d, (4, 5, 4), [(3, 2, 2)]),
    ],
    ids=["1-D", "2-D", "3-D"],
)
def test_true_convolution_is_scipys(kind: type[nn.Module], size: Place, kernels: list[Place]) -> None:
    cases = list(itertools.product(kernels, ("valid", "same", "full")))
    layers = [seeded(kind, 2, 3, kernel, padding=mode, bias=False) for kernel, mode in cases]
    x = normal(2, 2, *size)
    for made, layer, (_, mode) in zip(agree(layers, x, atol=SUMS), layers, cases, strict=True):
        weight = numbers(layer, "weight").astype(np.float64)
        hold(made, [[sum(signal.convolve(n[c], w[c], mode) for c in range(2)) for w in weight] for n in x])  # type: ignore[misc]


def test_true_convolution_is_the_formula_of_the_book() -> None:
    """S(i, j) = sum_m,n I(i - m, j - n) K(m, n), written down as it stands."""
    layer = seeded(TrueConv2d, 1, 1, 3, padding="full", bias=False)
    image, kernel = normal(4, 5), numbers(layer, "weight")[0, 0]
    wanted = np.zeros((1, 1, 6, 7))
    for i, j, m, n in itertools.product(range(6), range(7), range(3), range(3)):
        if 0 <= i - m < 4 and 0 <= j - n < 5:
            wanted[0, 0, i, j] += float(image[i - m, j - n]) * kernel[m, n]
    hold([run_torch(layer, image[None, None])], [wanted])


@pytest.mark.parametrize(("kind", "shape"), [(TrueConv1d, (2, 8)), (TrueConv2d, (2, 6, 6)), (TrueConv3d, (2, 4, 4, 4))])
def test_a_true_convolution_exports_to_one_plain_convolution(kind: type[nn.Module], shape: Place) -> None:
    assert op_counts(exported(seeded(kind, 2, 3, 3), shape)) == {"Conv": 1}


# ------------------------------------------------------------------------------------------ locally connected, tiled
@pytest.mark.parametrize(
    ("kind", "size", "cases"),
    [
        (LocalConv1d, (9,), [((3,), (1,), "valid"), ((4,), (2,), "same")]),
        (
            LocalConv2d,
            (6, 5),
            [((3, 2), (1, 1), "valid"), ((2, 3), (2, 3), "same"), ((2, 2), (1, 1), "full"), ((6, 5), (1, 1), "valid")],
        ),
    ],
    ids=["1-D", "2-D"],
)
def test_locally_connected_has_a_kernel_at_every_position(kind: type[nn.Module], size: Place, cases: list) -> None:
    layers = [seeded(kind, 3, 4, size, *case) for case in cases]
    x = normal(3, 3, *size)
    for made, layer, (kernel, stride, mode) in zip(agree(layers, x, atol=SUMS), layers, cases, strict=True):
        sides = [pads(*axis, mode) for axis in zip(size, kernel, stride, strict=True)]
        weight = numbers(layer, "weight")

        def at(place: Place, weight=weight, layer=layer, kernel=kernel) -> np.ndarray:
            own = weight[np.ravel_multi_index(place, layer.output_size)]  # (C k, O)
            return own.T.reshape(4, 3, *kernel)

        hold([made], [slid(x, at, sides, stride) + numbers(layer, "bias")])


def test_a_locally_connected_layer_knows_its_size() -> None:
    layer = LocalConv2d(3, 4, 6, 3)
    with pytest.raises(BadInput, match=r"input: is \(7, 6\), this layer has weights for \(6, 6\)"):
        layer(torch.zeros(1, 3, 7, 6))
    with pytest.raises(BadInput, match=r"kernel \(7, 7\): does not fit into an input of \(6, 6\)"):
        LocalConv2d(3, 4, 6, 7)
    assert sum(p.numel() for p in layer.parameters()) == 16 * (3 * 9 * 4 + 4)  # 16 positions


@pytest.mark.parametrize("open_size", [False, True], ids=["static", "open size"])
@pytest.mark.parametrize(
    ("kind", "size", "cases"),
    [
        (TiledConv1d, (10,), [((3,), 2, (1,), "same"), ((2,), 3, (2,), "valid")]),
        (
            TiledConv2d,
            (6, 7),
            [((3, 3), 2, (1, 1), "same"), ((2, 3), 3, (2, 1), "full"), ((1, 1), 2, (2, 2), "valid")],
        ),
    ],
    ids=["1-D", "2-D"],
)
def test_tiled_kernels_take_turns(kind: type[nn.Module], size: Place, cases: list, open_size: bool) -> None:
    cases = cases[:2] if open_size else cases
    layers = [seeded(kind, 2, 3, *case) for case in cases]
    x = normal(3, 2, *size)
    answers = agree(layers, x, atol=SUMS, sizes=open_size)
    for made, layer, (kernel, tiles, stride, mode) in zip(answers, layers, cases, strict=True):
        sides = [pads(*axis, mode) for axis in zip(size, kernel, stride, strict=True)]
        weight, bias = numbers(layer, "weight"), numbers(layer, "bias")

        def turn(place: Place, tiles=tiles) -> int:
            return int(np.ravel_multi_index([i % tiles for i in place], (tiles,) * len(place)))

        wanted = slid(x, lambda place, w=weight, turn=turn: w[turn(place)], sides, stride)
        for place in itertools.product(*map(range, wanted.shape[2:])):
            wanted[(slice(None), slice(None), *place)] += bias[turn(place)]
        hold([made], [wanted])


def test_one_tile_is_a_convolution_and_a_tile_for_every_output_is_locally_connected() -> None:
    x = normal(2, 3, 6, 6)
    one, plain = seeded(TiledConv2d, 3, 4, 3, 1), Conv2d(3, 4, 3)
    plain.load_state_dict({"weight": one.get_parameter("weight")[0], "bias": one.get_parameter("bias")[0]})
    hold([run_torch(one, x)], [run_torch(plain, x)])
    many, local = seeded(TiledConv2d, 3, 4, 3, 6, bias=False), LocalConv2d(3, 4, 6, 3, padding="same", bias=False)
    local.weight.data = many.get_parameter("weight").detach().permute(0, 2, 3, 4, 1).reshape(36, 27, 4)
    hold([run_torch(many, x)], [run_torch(local, x)])


# ------------------------------------------------------------------------------------------------------- pooling
OUTPUTS = [(2, 2), (3, 4), (7, 6), (1, 1), (9, 5)]
"""From (7, 6) pixels: even, overlapping, one pixel each, all in one, and more outputs than pixels."""


@pytest.mark.parametrize("open_size", [False, True], ids=["static", "open size"])
def test_adaptive_pools_are_torchs(open_size: bool) -> None:
    """torch computes them for all sizes, but exports few of them."""
    x = normal(2, 3, 7, 6)
    wanted = OUTPUTS[1::3] if open_size else OUTPUTS
    layers = [kind(outputs) for kind in (AdaptiveAvgPool, AdaptiveMaxPool) for outputs in wanted]
    theirs = [kind(outputs) for kind in (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d) for outputs in wanted]
    answers = agree(layers, x, atol=1e-6, sizes=open_size)  # means of at most 42 numbers
    hold(answers, [run_torch(module, x) for module in theirs], atol=1e-6)


def test_an_open_size_pools_every_size() -> None:
    layers = [AdaptiveAvgPool(3), AdaptiveMaxPool(3)]
    model = exported(Several(layers), (2, 8, 8), size=True)
    for height, width in itertools.product((2, 3, 5, 9), (4, 7)):
        x = normal(2, 2, height, width)
        hold(run_onnx(model, x), [run_torch(layer, x) for layer in layers], atol=1e-6)  # means of at most 12


@pytest.mark.parametrize(
    ("outputs", "theirs", "shape"),
    [
        (4, (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d), (3, 11)),
        ((2, 3, 2), (nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d), (2, 5, 4, 3)),
    ],
    ids=["1-D", "3-D"],
)
def test_adaptive_pools_of_other_ranks(outputs: int | Place, theirs: tuple, shape: Place) -> None:
    x = normal(2, *shape)
    made = agree([AdaptiveAvgPool(outputs), AdaptiveMaxPool(outputs)], x, atol=1e-6)  # means of at most 12 numbers
    hold(made, [run_torch(kind(outputs), x) for kind in theirs], atol=1e-6)


@pytest.mark.parametrize("open_size", [False, True], ids=["static", "open size"])
@pytest.mark.parametrize("outputs", [(None, 3), (2, None)])
def test_none_keeps_a_size(outputs: tuple[int | None, int | None], open_size: bool) -> None:
    x = normal(2, 3, 7, 6)
    answers = agree([AdaptiveAvgPool(outputs), AdaptiveMaxPool(outputs)], x, atol=1e-6, sizes=open_size)
    hold(answers, [run_torch(kind(outputs), x) for kind in (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)], atol=1e-6)


@pytest.mark.parametrize("layer", [AdaptiveAvgPool((3, 4)), AdaptiveMaxPool((3, 4))], ids=["mean", "maximum"])
def test_a_static_size_leaves_nothing_to_compute_at_run_time(layer: nn.Module) -> None:
    ops = op_counts(exported(layer, (3, 7, 6)))
    assert not {"Range", "Div", "Mod", "Floor", "Cast", "Where"} & ops.keys()


def kept_largest(row: Sequence[float], k: int) -> list[float]:
    """The k largest in their order, by a loop that throws out the last of the smallest until k are left."""
    kept = list(row)
    while len(kept) > k:
        kept.pop(len(kept) - 1 - kept[::-1].index(min(kept)))
    return kept


def rows_kept(x: np.ndarray, k: int) -> np.ndarray:
    return np.array([[kept_largest(row, k) for row in image] for image in x.tolist()], np.float32)


@pytest.mark.parametrize("open_size", [False, True], ids=["static", "open size"])
def test_k_max_keeps_the_largest_in_their_order(open_size: bool) -> None:
    """Half of the values are equal, as zeros behind a ReLU are: the earlier ones stay."""
    x = np.maximum(np.round(normal(3, 4, 11) * 2), 0).astype(np.float32)
    x[0, 0] = [0, 3, 0, 5, 0, 0, 0, 0, 0, 0, 0]
    counts = (1, 3, 4, 11)
    answers = agree([KMaxPool1d(k) for k in counts], x, atol=0.0, sizes=open_size)
    hold(answers, [rows_kept(x, k) for k in counts], atol=0.0)


def test_dynamic_k_follows_the_length_of_the_sentence() -> None:
    """The paper's example, section 3.3: three layers, 18 words: k = 12 and 6 (and k_top = 4 here for the last)."""
    pools = [DynamicKMaxPool1d(4, layer, 3) for layer in (1, 2, 3)]
    model = exported(Several(pools), (3, 15), size=True)
    for size, counts in {18: (12, 6, 4), 19: (13, 7, 4), 10: (7, 4, 4)}.items():
        x = normal(2, 3, size)
        wanted = [rows_kept(x, k) for k in counts]
        hold([run_torch(pool, x) for pool in pools], wanted, atol=0.0)
        hold(run_onnx(model, x), wanted, atol=0.0)


def test_dynamic_k_counts_layers_from_one() -> None:
    with pytest.raises(BadInput, match="layer 0 of 3: layers count from 1 to 3"):
        DynamicKMaxPool1d(4, 0, 3)


# ------------------------------------------------------------------------------------------------------- unpooling
class Unpooled(nn.Module):
    """Other values (2 y + 1, so that zeros show) put back where the maxima were."""

    def __init__(self, side: int = 2) -> None:
        super().__init__()
        self.pool, self.unpool = MaxPoolIndices2d(side), MaxUnpool2d(side)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, places = self.pool(x)
        return self.unpool(2 * y + 1, places, (x.shape[2], x.shape[3]))


def put_back(x: np.ndarray, side: int) -> np.ndarray:
    made = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*x.shape[:2], x.shape[2] // side, x.shape[3] // side):
        block = x[n, c, i * side : (i + 1) * side, j * side : (j + 1) * side]
        row, column = divmod(int(block.argmax()), side)
        made[n, c, i * side + row, j * side + column] = 2 * block.max() + 1
    return made


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (6, 9)])
def test_values_go_back_to_where_the_maxima_were(size: tuple[int, int]) -> None:
    """With ties, which the first wins, with odd sizes, and with a batch, through which ONNX counts its places."""
    x = np.round(normal(3, 4, *size)).astype(np.float32)
    answers = agree([Unpooled(2), Unpooled(3)], x, atol=0.0)
    hold(answers, [put_back(x, 2), put_back(x, 3)], atol=0.0)


def test_a_graph_of_open_size_unpools_every_size() -> None:
    model = exported(Unpooled(), (4, 6, 8), size=True)
    for size in ((2, 3), (9, 9), (12, 5), (6, 8)):
        x = normal(2, 4, *size)
        hold(run_onnx(model, x), [put_back(x, 2)], atol=0.0)


# --------------------------------------------------------------------------------------------- probabilistic pooling
class Units(ProbabilisticMaxPool2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.units(x)


def energies(x: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(P(p = 1), P(h = 1) block by block), as the paper writes them, in float64."""
    rows, columns = x.shape[2] // side, x.shape[3] // side
    pooled = np.zeros((*x.shape[:2], rows, columns))
    units = np.zeros((*pooled.shape, side * side))
    for n, k, i, j in np.ndindex(*pooled.shape):
        block = x[n, k, i * side : (i + 1) * side, j * side : (j + 1) * side].astype(np.float64).ravel()
        partition = 1 + np.exp(block).sum()
        units[n, k, i, j] = np.exp(block) / partition
        pooled[n, k, i, j] = 1 - 1 / partition
    return pooled, units


def test_probabilistic_max_pooling_is_the_papers_formula() -> None:
    layers = [kind(side) for side in (2, 3) for kind in (ProbabilisticMaxPool2d, Units)]
    model = exported(Several(layers), (3, 7, 8))
    for scale in (1, 60):  # exp(60 x) overflows in float32
        x = scale * normal(2, 3, 7, 8)
        wanted = [part for side in (2, 3) for part in energies(x, side)]
        # exp carries the rounding of its argument on: 2e2 * 6e-8
        hold(same(model, layers, x, atol=2e-5), wanted, atol=2e-5)


def test_the_pool_is_on_as_often_as_one_of_its_units() -> None:
    layer = ProbabilisticMaxPool2d(2)
    x = torch.from_numpy(normal(1, 2, 6, 6))
    torch.testing.assert_close(layer.units(x).sum(-1), layer(x), rtol=0, atol=1e-6)  # sums of 4 probabilities


# ------------------------------------------------------------------------------------------------ what is in the graph
def test_after_the_float_passes_each_layer_is_the_operators_that_it_promises() -> None:
    convolutions = [seeded(Conv2d, 2, 3, k, 1, mode) for k, mode in ((3, "same"), (4, "same"), (4, "full"))]
    assert simplified(convolutions, (2, 6, 6)) == {"Conv": 3}  # the padding is the Conv's own
    assert simplified([Unpooled()], (2, 6, 6)) == {"MaxPool": 1, "Mul": 1, "Add": 1, "MaxUnpool": 1}
    local = simplified([seeded(LocalConv2d, 2, 4, (6, 6), 3)], (2, 6, 6))
    assert local["Gather"] == local["MatMul"] == local["Add"] == 1
    assert local.keys() <= {"MatMul", "Gather", "Add", "Reshape", "Transpose", "Shape", "Concat"}
