"""Chains of linear operators, per-channel affines and barriers: as a graph, as PyTorch in float64, as a forecast.

    x -> [affines] -> linear -> [affines] -> Relu -> [affines] -> linear -> [affines] -> y    any one may be an output

`forecast` says which nodes a fold may take, by the rules of the documentation and not by the code under test. `measure`
runs the network on absolute values: m roundings to a type with unit roundoff u move an output by at most m u of that
(Higham 2002, section 3.1), whatever the order of the sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from runtimes.base import Array

AFFINES = ("bn", "mul", "add", "sub", "rsub", "div", "neg", "spelled")
SHIFTING = ("bn", "add", "sub", "rsub", "spelled")
BARRIERS = ("relu", "square", "wide", "open")
"""Not foldable: not linear, its own factor, a constant for each image, a constant that a caller may override."""


@dataclass
class Item:
    """One operator of the chain; `values` are its parameters, `tap` makes its result an output of the model."""

    kind: str
    name: str
    channels: int
    values: dict[str, Array] = field(default_factory=dict)
    attributes: dict[str, object] = field(default_factory=dict)
    tap: bool = False
    held: bool = False
    """a linear operator's weight is an input that a caller may override"""
    form: str = "initializer"
    """how a constant arrives: initializer, node, identity"""

    @property
    def linear(self) -> bool:
        return self.kind in ("Conv", "ConvTranspose", "Gemm", "MatMul")

    @property
    def affine(self) -> bool:
        return self.kind in AFFINES

    def nodes(self) -> list[str]:
        """Names of the nodes that compute on activations."""
        return [f"{self.name}.{i}" for i in range(4)] if self.kind == "spelled" else [self.name]


@dataclass
class Network:
    items: list[Item]
    shape: tuple[int, ...]
    """of x; dimension 1 or the last one are channels"""
    channels_last: bool

    # ------------------------------------------------------------------------------------------------ as a graph
    def model(self) -> onnx.ModelProto:
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[onnx.TensorProto] = []
        self._inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)]
        outputs, source = [], "x"
        for item in self.items:
            source = self._add(item, source)
            if item.tap or item is self.items[-1]:
                sizes = [f"{source}{i}" for i in range(len(self.shape))]
                outputs.append(helper.make_tensor_value_info(source, TensorProto.FLOAT, sizes))
        graph = helper.make_graph(self._nodes, "chain", self._inputs, outputs, self._tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return model

    def _constant(self, item: Item, key: str) -> str:
        name, value = f"{item.name}.{key}", np.ascontiguousarray(item.values[key])
        if item.form == "node":
            self._nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)))
            return name
        self._tensors.append(numpy_helper.from_array(value, name))
        if item.kind == "open" or (item.held and key == "w"):
            self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
        if item.form != "identity":
            return name
        self._nodes.append(helper.make_node("Identity", [name], [f"{name}'"]))
        return f"{name}'"

    def _node(self, kind: str, name: str, reads: list[str], **attributes: object) -> str:
        self._nodes.append(helper.make_node(kind, reads, [f"{name}:"], name, **attributes))
        return f"{name}:"

    def _add(self, item: Item, x: str) -> str:
        if item.linear or item.kind == "bn":
            kind = "BatchNormalization" if item.kind == "bn" else item.kind
            reads = [x, *(self._constant(item, key) for key in item.values)]
            return self._node(kind, item.name, reads, **item.attributes)
        if item.kind in ("relu", "neg"):
            return self._node(item.kind.capitalize(), item.name, [x])
        if item.kind == "square":
            return self._node("Mul", item.name, [x, x])
        if item.kind == "spelled":
            return self._spelled(item, x)
        c = self._constant(item, "c")
        kind = {"rsub": "Sub", "wide": "Mul", "open": "Mul"}.get(item.kind, item.kind.capitalize())
        flipped = item.kind == "rsub" or item.attributes.get("flip", False)
        return self._node(kind, item.name, [c, x] if flipped else [x, c])

    def _spelled(self, item: Item, x: str) -> str:
        """(x - mean) / sqrt(variance + epsilon) * scale + shift, in one of three spellings of the root."""
        s, h, m = (self._constant(item, key) for key in "shm")
        names = item.nodes()
        kind, root = self._root(item)
        x = self._node("Sub", names[0], [x, m])
        x = self._node(kind, names[1], [x, root])
        x = self._node("Mul", names[2], [x, s])
        return self._node("Add", names[3], [x, h])

    def _root(self, item: Item) -> tuple[str, str]:
        safe = self._node("Add", f"{item.name}.safe", [self._constant(item, "v"), self._constant(item, "e")])
        if item.attributes["root"] == "pow":
            self._tensors.append(numpy_helper.from_array(np.float32(-0.5), f"{item.name}.half"))
            return "Mul", self._node("Pow", f"{item.name}.root", [safe, f"{item.name}.half"])
        root = self._node("Sqrt", f"{item.name}.root", [safe])
        if item.attributes["root"] == "div":
            return "Div", root
        return "Mul", self._node("Reciprocal", f"{item.name}.inverse", [root])

    # ------------------------------------------------------------------------------------------------ as a function
    def outputs(self, x: Array, measure: bool = False) -> list[Array]:
        """What PyTorch makes of x in float64; with `measure` of |x|, with the absolute value of every parameter."""
        y = torch.from_numpy(x.astype(np.float64))
        y = y.abs() if measure else y
        found = []
        for item in self.items:
            y = self._apply(item, y, measure)
            if item.tap or item is self.items[-1]:
                found.append(y.numpy())
        return found

    def _apply(self, item: Item, x: torch.Tensor, measure: bool) -> torch.Tensor:
        p = {k: torch.from_numpy(np.asarray(v, np.float64)) for k, v in item.values.items()}
        if item.linear:
            p = {k: v.abs() if measure else v for k, v in p.items()}
            return LINEAR[item.kind](x, p, item.attributes, measure)
        slope, shift = self._affine(item, p)
        if measure and item.kind != "relu":
            slope, shift = slope.abs(), shift.abs()
        if item.kind in ("bn", "spelled"):  # centring first: what is added up is larger than the result
            shift = shift + 2 * (slope * p["m"].reshape(shift.shape)).abs() if measure else shift
        if item.kind in ("relu", "square"):
            return x.relu() if item.kind == "relu" else x * x
        return slope * x + shift

    def _affine(self, item: Item, p: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        if item.kind in ("bn", "spelled"):
            epsilon = float(np.float32(1e-5)) if item.kind == "bn" else p["e"]
            s, h, m, v = (p[key].reshape(self.across()) for key in "shmv")
            gain = s / (v + epsilon).sqrt()
            return gain, h - gain * m
        c = p.get("c", one)
        return {
            "mul": (c, zero), "wide": (c, zero), "open": (c, zero), "add": (one, c), "sub": (one, -c),
            "rsub": (-one, c), "div": (1 / c, zero), "neg": (-one, zero),
        }.get(item.kind, (one, zero))  # fmt: skip

    def across(self) -> tuple[int, ...]:
        """The shape in which numbers for each channel meet the activations."""
        return (-1,) if self.channels_last else (-1, *[1] * (len(self.shape) - 2))

    # ------------------------------------------------------------------------------------------------ the forecast
    def forecast(self) -> set[str]:
        """Names of the nodes that a fold must take; no other may go."""
        return {node for left, run, right in self.runs() for node in _taken(left, run, right)}

    def runs(self) -> list[tuple[Item | None, list[Item], Item | None]]:
        """(operator before, affines, operator behind) for each stretch of affines."""
        found, left, run = [], None, list[Item]()
        for item in self.items:
            if item.affine:
                run.append(item)
            else:
                found.append((left, run, item))
                left, run = item, []
        return [*found, (left, run, None)]


def _taken(left: Item | None, run: list[Item], right: Item | None) -> set[str]:
    taken: set[str] = set()
    run, first = list(run), run[0] if run else None
    if left is not None and left.linear and not left.held:
        free = not left.tap
        while run and free:
            item = run.pop(0)
            bias = left.kind == "MatMul" and item is first and item.kind == "add"
            taken |= set() if bias else set(item.nodes())
            free = not item.tap
    while run and right is not None and right.linear and not right.held and not run[-1].tap:
        if pads(right) and run[-1].kind in SHIFTING:
            break
        taken |= set(run.pop().nodes())
    return taken


def pads(item: Item) -> bool:
    """Whether zeros are put around x (Conv), or some places of y get fewer terms than others (ConvTranspose)."""
    if item.kind == "ConvTranspose":
        return item.attributes["kernel_shape"] != [1] * len(item.attributes["kernel_shape"]) or any(
            s != 1 for s in item.attributes["strides"]
        )
    return item.kind == "Conv" and any(item.attributes["pads"])


def _conv(x: torch.Tensor, p: dict[str, torch.Tensor], a: dict, measure: bool) -> torch.Tensor:
    half = len(a["pads"]) // 2
    function = [torch.nn.functional.conv1d, torch.nn.functional.conv2d][half - 1]
    return function(x, p["w"], p.get("b"), a["strides"], a["pads"][:half], a["dilations"], a["group"])


def _transposed(x: torch.Tensor, p: dict[str, torch.Tensor], a: dict, measure: bool) -> torch.Tensor:
    half = len(a["pads"]) // 2
    function = [torch.nn.functional.conv_transpose1d, torch.nn.functional.conv_transpose2d][half - 1]
    return function(x, p["w"], p.get("b"), a["strides"], a["pads"][:half], 0, a["group"], a["dilations"])


def _gemm(x: torch.Tensor, p: dict[str, torch.Tensor], a: dict, measure: bool) -> torch.Tensor:
    alpha, beta = (abs(a[k]) if measure else a[k] for k in ("alpha", "beta"))
    product = x @ (p["w"].T if a["transB"] else p["w"])
    return alpha * product + (beta * p["b"] if "b" in p else 0)


LINEAR = {"Conv": _conv, "ConvTranspose": _transposed, "Gemm": _gemm, "MatMul": lambda x, p, a, measure: x @ p["w"]}
