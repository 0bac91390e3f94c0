"""Random small graphs whose branches meet again: every pass and every rewrite leaves one alone, or what it makes is
valid and computes the same, at two sizes where sizes are open.

Passes go wrong where branches meet: sums that broadcast, tensors joined twice, sizes that are equal by chance.
Both graphs run unoptimized. Other graphs than these: `EDGECNN_TEST_SEED=7 pytest tests/test_random_graphs.py`.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgecnn.float_passes import FLOAT_PASSES, SMALL_PASSES
from exporters import passes, rewrites
from exporters.rewrites import ORDER
from runtimes import plugins
from runtimes.base import Array, BadInput
from runtimes.session import open_session

SEED = int(os.environ.get("EDGECNN_TEST_SEED", "0"))
BLOCKS, GRAPHS, MOST_MOVES = 8, 70, 5
PASSES = [name for name in dict.fromkeys((*SMALL_PASSES, *FLOAT_PASSES)) if name != "simplify"]
CHECKED = [plugins.load(passes, name, "pass") for name in PASSES] + [
    plugins.load(rewrites, n, "rewrite") for n in ORDER
]
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


class Drawn:
    """A graph under way. `tensors`: name -> its values for two inputs, which differ in the sizes that are open."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        shape = np.array([self.pick(1, 2, 2, 3), self.pick(1, 2, 3, 4), self.pick(1, 3, 4, 6), self.pick(1, 4, 4, 6)])
        more = self.pick([0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 1, 1])
        self.tensors = {"x": [self.normal(*shape), self.normal(*(shape + more))]}

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def normal(self, *shape: int) -> Array:
        return self.rng.normal(size=shape).astype(np.float32)

    def add(self, op: str, *inputs: str | Array, **settings: Any) -> str:
        """One node, as the last tensor; raises what onnx.reference raises where it computes nothing."""
        at = len(self.nodes)
        names = [value if isinstance(value, str) else f"k{at}_{i}" for i, value in enumerate(inputs)]
        given = {name: value for name, value in zip(names, inputs, strict=True) if not isinstance(value, str)}
        node = helper.make_node(op, names, [f"t{at}"], f"n{at}", **settings)
        known = [{name: self.tensors[name][i] for name in names if name in self.tensors} | given for i in (0, 1)]
        made = [ReferenceEvaluator(node).run(None, values)[0] for values in known]
        if 0 in (*made[0].shape, *made[1].shape):
            raise ValueError("nothing is left")
        self.tensors[node.output[0]] = made
        self.nodes.append(node)
        self.constants |= given
        return str(node.output[0])

    def image(self, like: str = "") -> str:
        """A tensor (N, C, H, W), the newest more often; one that can be added to `like`."""
        names = [name for name, (value, _) in self.tensors.items() if value.ndim == 4 and self.fits(name, like)]
        return str(names[-1] if self.rng.random() < 0.5 else self.pick(*names))

    def fits(self, name: str, like: str) -> bool:
        with contextlib.suppress(ValueError):
            return not like or all(
                np.broadcast(a, b) for a, b in zip(self.tensors[name], self.tensors[like], strict=True)
            )
        return False

    def size(self, name: str, axis: int) -> int:
        return int(self.tensors[name][0].shape[axis])

    # ------------------------------------------------------------------------------------------------------- moves
    def conv(self, x: str, outputs: int = 0, kernel: int = 0) -> str:
        inputs, kernel, outputs = self.size(x, 1), kernel or self.pick(1, 1, 3), outputs or self.pick(1, 3, 4, 5)
        group = self.pick(1, inputs)
        outputs = max(1, outputs // group) * group
        weights = [self.normal(outputs, inputs // group, kernel, kernel), *self.pick([], [self.normal(outputs)])]
        return self.add("Conv", x, *weights, group=group, pads=[kernel // 2] * 4, strides=self.pick([1, 1], [2, 2]))

    def transposed(self, x: str) -> str:
        return self.add("ConvTranspose", x, self.normal(self.size(x, 1), 3, 2, 2), strides=[2, 2])

    def one_input(self, x: str) -> str:
        bounds = [np.float32(-0.5), np.float32(1)]
        op, *more = self.pick(
            ["Relu"], ["Sigmoid"], ["Identity"], ["Clip", *bounds], ["Max", bounds[0]], ["GlobalAveragePool"],
            ["Pad", np.array([0, 0, 1, 0, 0, 0, 0, 1])],
        )  # fmt: skip
        return self.add(op, x, *more)

    def pool(self, x: str) -> str:
        op, made = self.pick("MaxPool", "AveragePool"), self.pick(x, self.conv(x))
        made = self.add(
            op, made, kernel_shape=[2, 2], strides=self.pick([1, 1], [2, 2]), pads=self.pick([0] * 4, [1] * 4)
        )
        return self.pick(made, self.add("Relu", made))

    def batchnorm(self, x: str) -> str:
        scale, shift, mean, spread = (self.normal(self.size(x, 1)) for _ in range(4))
        return self.add("BatchNormalization", x, scale, shift, mean, np.abs(spread) + np.float32(0.1))

    def met(self, x: str) -> str:
        """`x` with another image, itself at times; or with a constant of many forms."""
        c, width = self.size(x, 1), self.size(x, 3)
        form = self.pick((), (1,), (c, 1, 1), (1, c, 1, 1), (width,), (c, 1, width))
        other = self.pick(self.image(x), self.image(x), self.normal(*form))
        return self.add(self.pick("Add", "Add", "Mul"), *self.pick([x, other], [other, x]))

    def two_convolutions(self, x: str) -> str:
        outputs = self.pick(2, 4)
        other = self.add("GlobalAveragePool", x) if self.pick(True, False) else self.image(x)
        sides = [self.add("Conv", side, self.normal(outputs, self.size(side, 1), 1, 1)) for side in (x, other)]
        return self.add("Add", *self.pick(sides, sides[::-1]))

    def joined(self, x: str) -> str:
        a, b = self.pick([x, x], [self.conv(x, kernel=1)] * 2, [x, self.image(x)])
        return self.add("Concat", *self.pick([a, b], [a, b, a]), axis=self.pick(1, 1, 1, 2))

    def cut(self, x: str) -> str:
        axis, end = self.pick(0, 0, 1, 2), np.array([2**31 - 1])
        half = np.array([self.size(x, axis) // 2])
        more: list[Any] = [np.array([axis])] if axis else self.pick([], ["", np.array([1])])
        first, second = (self.add("Slice", x, *ends, *more) for ends in ((np.array([0]), half), (half, end)))
        return self.add("Concat", *self.pick([first, second], [second, first]), axis=self.pick(axis, 1))

    def resized(self, x: str) -> str:
        scales = np.array(
            [1, 1, *self.pick([1, 1], [2, 1], [2, 1], [1, 2], [1, 2], [2.2, 2.2], [2.2, 2.2])], np.float32
        )
        x = self.pick(x, self.one_input(x))
        if self.pick(True, False):
            return self.add("Resize", x, "", scales, **NEAREST)
        sizes = self.add("Mul", self.add("Shape", x), np.floor(scales).astype(np.int64))
        return self.add("Resize", x, "", "", sizes, **NEAREST)

    def turned(self, x: str) -> str:
        return self.add("Transpose", x, perm=self.pick([0, 1, 3, 2], [0, 2, 3, 1], [0, 1, 2, 3]))

    def product(self, x: str) -> str:
        """A fully connected layer, and back to an image."""
        x = self.pick(x, self.add("GlobalAveragePool", x))
        flat = self.pick(lambda: self.add("Flatten", x), lambda: self.add("Reshape", x, np.array([0, -1])))()
        rows, inputs = self.size(flat, 0), self.size(flat, 1)
        outputs = self.pick(1, rows, rows, 4)
        bias = self.normal(*self.pick((), (1,), (outputs,), (1, outputs), (rows, 1), (rows, 1), (rows, outputs)))
        weight = self.normal(inputs, outputs)
        if self.pick(True, False, False):
            y = self.add("Gemm", flat, weight, bias)
        else:
            made = self.add("MatMul", flat, weight)
            y = self.add("Add", *self.pick([bias, made], [made, bias]))
        return self.add("Reshape", y, np.array([0, -1, 1, 1]))

    def value(self, name: str) -> onnx.ValueInfoProto:
        """The type of a tensor, with its sizes where they are the same in both values."""
        pairs = zip(*(value.shape for value in self.tensors[name]), strict=True)
        sizes = [a if a == b else f"{name}_{i}" for i, (a, b) in enumerate(pairs)]
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(self.tensors[name][0].dtype), sizes)

    def model(self) -> onnx.ModelProto:
        """The graph; what nobody reads is an output, and at times another image."""
        read = {name for node in self.nodes for name in node.input}
        outputs = [name for name in self.tensors if name not in read]
        outputs += [name for name in self.pick([], [], [self.image()]) if name not in (*outputs, "x")]
        graph = helper.make_graph(self.nodes, "g", [self.value("x")], [self.value(name) for name in outputs])
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self.constants.items())
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


KINDS = [
    Drawn.conv, Drawn.transposed, Drawn.one_input, Drawn.pool, Drawn.batchnorm, Drawn.met, Drawn.two_convolutions,
    Drawn.joined, Drawn.cut, Drawn.cut, Drawn.resized, Drawn.resized, Drawn.turned, Drawn.product, Drawn.product,
]  # fmt: skip


def drawn(seed: int) -> tuple[onnx.ModelProto, list[Array]]:
    """A graph of some moves, those that compute nothing left out, and two inputs for it."""
    graph = Drawn(seed)
    moves = [graph.pick(*KINDS) for _ in range(graph.pick(*range(1, MOST_MOVES + 1)))]
    for move in [*moves, *graph.pick([], [], [Drawn.conv])]:
        with contextlib.suppress(Exception):  # sizes that do not fit: onnx.reference raises what it likes
            move(graph, graph.image())
    if not graph.nodes:
        graph.add("Relu", "x")
    return graph.model(), graph.tensors["x"]


def answers(model: onnx.ModelProto, inputs: list[Array]) -> list[dict[str, Array]]:
    session = open_session(model, optimize=False, threads=1)
    return [session({"x": x}) for x in inputs]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_what_comes_out_computes_the_same(block: int) -> None:
    acted = 0
    for seed in range(GRAPHS * block, GRAPHS * (block + 1)):
        model, inputs = drawn(seed + 1_000_000 * SEED)
        try:
            onnx.checker.check_model(model, full_check=True)
            wanted = answers(model, inputs)
        except (BadInput, onnx.shape_inference.InferenceError):  # onnx.reference takes more
            continue
        for module in CHECKED:
            result = module.run(model)
            if not result.changes:
                continue
            acted += 1
            what = f"{module.__name__} on graph {seed} of seed {SEED}"
            try:
                onnx.checker.check_model(result.model, full_check=True)
                got = answers(result.model, inputs)
            except Exception as error:
                raise AssertionError(f"{what}: {error}") from error
            for before, after in zip(wanted, got, strict=True):
                for name, value in before.items():
                    assert after[name].shape == value.shape, what
                    limit = 1e-4 * max(1.0, float(np.abs(value).max(initial=0)))
                    np.testing.assert_allclose(after[name], value, rtol=0, atol=limit, err_msg=what)
    assert acted > GRAPHS
