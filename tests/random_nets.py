"""Random small networks of the operators that int8 knows, and of some that it does not; the same for the same seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass
class Net:
    """A graph that grows at its end: `shapes` of all tensors so far, from the input `x` on."""

    rng: np.random.Generator
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, op: str, inputs: Sequence[str], *shapes: tuple[int, ...], **attributes: object) -> str:
        names = [f"t{len(self.nodes)}_{i}" for i in range(len(shapes))]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        self.shapes |= dict(zip(names, shapes, strict=True))
        return names[0]

    def number(self, value: object, dtype: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        return self.number(self.rng.normal(size=shape) * scale)

    def pick(self, fits: Callable[[tuple[int, ...]], bool]) -> str:
        """Some tensor whose shape `fits`; mostly the newest."""
        names = [name for name, shape in self.shapes.items() if len(shape) == 4 and fits(shape)]
        return names[-1] if self.rng.random() < 0.7 else str(self.rng.choice(names))

    def model(self) -> onnx.ModelProto:
        read = {name for node in self.nodes for name in node.input}
        ends = [name for name in self.shapes if name not in read and name != "x"]
        shown = [
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.shapes[n]) for n in ns] for ns in (["x"], ends)
        ]
        graph = helper.make_graph(self.nodes, "g", *shown, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def convolution(net: Net, x: str, n: int, c: int, h: int, w: int) -> None:
    kernel, out, depthwise = int(net.rng.choice([1, 3])), int(net.rng.choice([4, 6, 8])), net.rng.random() < 0.3
    group, out = (c, c) if depthwise else (1, out)
    inputs = [x, net.normal(out, c // group, kernel, kernel, scale=1 / (kernel * math.sqrt(c // group)))]
    inputs += [net.normal(out)] if net.rng.random() < 0.6 else []
    net.add("Conv", inputs, (n, out, h, w), group=group, pads=[kernel // 2] * 4)


def transposed(net: Net, x: str, n: int, c: int, h: int, w: int) -> None:
    if h < 16:
        net.add("ConvTranspose", [x, net.normal(c, 4, 2, 2, scale=0.5)], (n, 4, 2 * h, 2 * w), strides=[2, 2])


def clip(net: Net, x: str, *shape: int) -> None:
    ends = [(0, 6), (-1, 1), (0.5, 2), (2, 6), (-2, -0.5), (0, 0.3), (0.5, None), (None, -0.5)]
    least, most = ends[net.rng.integers(len(ends))]
    net.add("Clip", [x, *("" if end is None else net.number(end) for end in (least, most))], shape)


def activation(net: Net, x: str, *shape: int) -> None:
    op = str(net.rng.choice(["Relu", "Relu", "HardSwish", "Sigmoid", "LeakyRelu", "PRelu", "Tanh"]))
    net.add(op, [x, net.number(net.rng.uniform(-0.2, 0.5, (shape[1], 1, 1)))] if op == "PRelu" else [x], shape)


def gate(net: Net, x: str, n: int, c: int, h: int, w: int) -> None:
    """HardSwish or HardSigmoid behind a convolution, which have an int8 form, and what else may stay on its grid."""
    x = net.add("Conv", [x, net.normal(4, c, 1, 1)], (n, 4, h, w))
    if net.rng.random() < 0.3:
        x = net.add("HardSwish", [x], net.shapes[x])
    else:
        x = net.add("HardSigmoid", [x], net.shapes[x], alpha=1 / 6, beta=0.5)
    if net.rng.random() < 0.5:
        (leak, clip, moved)[net.rng.integers(3)](net, x, *net.shapes[x])


def leak(net: Net, x: str, *shape: int) -> None:
    """max(x, s x), as rewrites make it of a PRelu."""
    slopes = net.number(net.rng.uniform(-0.5, 1, (shape[1], 1, 1)))
    net.add("Max", [x, net.add("Mul", [x, slopes], shape)], shape)


def limit(net: Net, x: str, *shape: int) -> None:
    net.add(str(net.rng.choice(["Max", "Min"])), [x, net.number(net.rng.normal())], shape)


def together(net: Net, x: str, *shape: int) -> None:
    other = net.pick(lambda s: all(a == b or a == 1 for a, b in zip(s, shape, strict=True)))
    net.add(str(net.rng.choice(["Add", "Mul"])), [x, other], shape)


def by_number(net: Net, x: str, *shape: int) -> None:
    size = [(1,), (shape[1], 1, 1), (1, shape[1], 1, 1)][net.rng.integers(3)]
    net.add(str(net.rng.choice(["Add", "Mul"])), [x, net.normal(*size)], shape)


def concat(net: Net, x: str, n: int, c: int, h: int, w: int) -> None:
    parts = [x, *(net.pick(lambda s: s[2:] == (h, w)) for _ in range(int(net.rng.integers(1, 3))))]
    parts += [x] if net.rng.random() < 0.3 else []
    channels = sum(net.shapes[part][1] for part in parts)
    if channels <= 40:
        net.add("Concat", parts, (n, channels, h, w), axis=1)


def pool(net: Net, x: str, n: int, c: int, h: int, w: int) -> None:
    if h > 3:
        op = str(net.rng.choice(["MaxPool", "AveragePool"]))
        net.add(op, [x], (n, c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])


def moved(net: Net, x: str, n: int, c: int, h: int, w: int) -> None:
    way = int(net.rng.integers(5))
    if way == 0 and h < 16:
        mode = {"mode": str(net.rng.choice(["nearest", "linear"])), "nearest_mode": "floor"}
        scales = net.number([1, 1, 2, 2])
        net.add("Resize", [x, "", scales], (n, c, 2 * h, 2 * w), coordinate_transformation_mode="asymmetric", **mode)
    elif way == 1 and c % 2 == 0:
        net.add("Split", [x], (n, c // 2, h, w), (n, c // 2, h, w), axis=1, num_outputs=2)
    elif way == 2 and h > 1:  # no zeros: ONNX Runtime 1.31 pads a MaxPool behind them with its smallest number instead
        net.add("Pad", [x, net.number([0, 0, 1, 1, 0, 0, 1, 1], np.int64)], (n, c, h + 2, w + 2), mode="reflect")
    elif way == 3:
        net.add("Transpose", [x], (n, c, w, h), perm=[0, 1, 3, 2])
    else:
        net.add("GlobalAveragePool", [x], (n, c, 1, 1))


def head(net: Net, x: str, n: int, c: int, h: int, w: int) -> None:
    ways = {"Flatten": [x], "Reshape": [x, net.number([n, -1], np.int64)]}
    op = str(net.rng.choice([*ways]))
    flat = net.add(op, ways[op], (n, c * h * w))
    last = net.add("MatMul", [flat, net.normal(c * h * w, 5, scale=1 / math.sqrt(c * h * w))], (n, 5))
    if net.rng.random() < 0.5:
        last = net.add("Gemm", [last, net.normal(6, 5, scale=0.5), net.normal(6)], (n, 6), transB=1)
    if net.rng.random() < 0.3:
        net.add("Softmax", [last], net.shapes[last])


PIECES = (convolution, convolution, convolution, transposed, clip, clip, activation, activation, gate, leak, limit,
          together, by_number, concat, pool, moved)  # fmt: skip


def random_net(seed: int) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    side, channels = int(rng.integers(4, 9)), int(rng.choice([3, 4, 8]))
    net = Net(rng, {"x": (2, channels, side, side)})
    convolution(net, "x", *net.shapes["x"])
    for _ in range(int(rng.integers(3, 12))):
        x = net.pick(lambda _: True)
        PIECES[rng.integers(len(PIECES))](net, x, *net.shapes[x])
    if rng.random() < 0.5:
        x = net.pick(lambda _: True)
        head(net, x, *net.shapes[x])
    return net.model()
