"""Give a model the pixels themselves: a uint8 input, the normalization inside the graph, the same bits out.

    float input    (p / 255 - mean) / std    computed by the caller, four bytes a number
    uint8 input    p -> Cast -> / 255 -> - mean -> / std -> the model    the same float32 operations, in this order
    int8 graph     p -> DequantizeLinear     where the first QuantizeLinear makes of every pixel p the integer p

The last form costs nothing at all: it is taken when all 256 values of every channel come out as themselves, as with
x/255 on a grid from 0 to 1. Pixels are (N, C, H, W) or, as cameras and decoders give them, (N, H, W, C); where the
model has its channels elsewhere a Transpose stands in front, which an integer graph undoes by itself. The result is run
against the model as it was and must be equal to the bit. Test: tests/test_pixel_input.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters.graph import Graph, free_inputs
from runtimes.base import Array, BadInput, CheckFailed
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import open_session

TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
SEED = 0


def with_pixel_input(model: onnx.ModelProto, preprocess: Preprocess) -> onnx.ModelProto:
    """A copy of `model`, which takes what `preprocess` makes as float32, with its normalization inside.

    The input is uint8 as `preprocess.input` says. Raises `BadInput` for a model that does not take one float32 image,
    `CheckFailed` where the outputs are not equal to the bit.
    """
    graph = Graph(model)
    inputs = free_inputs(graph.model)
    kind = inputs[0].type.tensor_type if len(inputs) == 1 else None
    if kind is None or kind.elem_type != TensorProto.FLOAT or len(kind.shape.dim) != 4:
        raise BadInput("--input: needs a model with one float32 input (N, C, H, W) or (N, H, W, C)")
    name, last = inputs[0].name, last_in(preprocess, [dim.dim_value or None for dim in kind.shape.dim[1:]])
    nodes, pixels = _moved(graph, name, preprocess, last)
    exact = _first_grid(graph, name, preprocess)
    if exact is not None:
        _read(graph, exact.output[0], pixels)
        kept = [node for node in graph.proto.node if node is not exact]
    else:
        steps, normalized = _normalized(graph, pixels, preprocess, last)
        _read(graph, name, normalized)
        nodes, kept = [*nodes, *steps], list(graph.proto.node)
    batch = inputs[0].type.tensor_type.shape.dim[0]
    shape = [batch.dim_param or batch.dim_value or "N", *preprocess.shape]
    inputs[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
    graph.set_nodes([*nodes, *kept])
    graph.prune()
    prove(model, graph.model, name, preprocess, last)
    return graph.model


def last_in(preprocess: Preprocess, sizes: Sequence[object]) -> bool:
    """Whether a network that takes (N, *sizes) of the pictures which `preprocess` makes has channels last.

    >>> last_in(Preprocess((3, 32)), (3, 32, 3)), last_in(Preprocess((3, 3)), (3, 3, 3))
    (True, False)
    """
    channels, size = preprocess.channels, preprocess.size

    def fits(wanted: Sequence[int]) -> bool:
        return all(not isinstance(s, int) or s == w for s, w in zip(sizes, wanted, strict=True))

    return len(sizes) == len(TO_NHWC) - 1 and fits((*size, channels)) and not fits((channels, *size))


def normalization(preprocess: Preprocess, last: bool = False) -> list[tuple[str, Array]]:
    """(operator, operand) in their order, as `Preprocess` computes; those that change nothing are left out.

    `last`: for (N, H, W, C).
    """
    axes = (-1,) if last else (-1, 1, 1)
    mean, std = (np.asarray(v, np.float32).reshape(axes) for v in (preprocess.mean, preprocess.std))
    steps = [("Div", np.float32(255)), ("Sub", mean), ("Div", std)]
    return [(op, np.asarray(v)) for op, v in steps if np.any(v != (0.0 if op == "Sub" else 1.0))]


def _moved(graph: Graph, name: str, preprocess: Preprocess, last: bool) -> tuple[list[onnx.NodeProto], str]:
    """(nodes, tensor) of the pixels `name` with their channels where the model has them."""
    if preprocess.channels_last == last:
        return [], name
    moved = graph.fresh(f"{name}_channels_{'last' if last else 'first'}")
    return [helper.make_node("Transpose", [name], [moved], name=moved, perm=TO_NHWC if last else TO_NCHW)], moved


def _normalized(
    graph: Graph, pixels: str, preprocess: Preprocess, last: bool
) -> tuple[list[onnx.NodeProto], str]:  # fmt: skip
    current = graph.fresh(f"{pixels}_float")
    nodes = [helper.make_node("Cast", [pixels], [current], name=current, to=TensorProto.FLOAT)]
    for number, (op, value) in enumerate(normalization(preprocess, last)):
        operand = graph.add_constant(value, f"{pixels}_normalization_{number}")
        result = graph.fresh(f"{pixels}_{op.lower()}_{number}")
        nodes.append(helper.make_node(op, [current, operand], [result], name=result))
        current = result
    return nodes, current


def _first_grid(graph: Graph, name: str, preprocess: Preprocess) -> onnx.NodeProto | None:
    """The QuantizeLinear that alone reads `name` and makes of every pixel the pixel; None where there is none."""
    node = graph.only_consumer(name)
    if node is None or node.op_type != "QuantizeLinear" or len(node.input) != 3:
        return None
    scale, zero = graph.constant(node.input[1]), graph.constant(node.input[2])
    if scale is None or zero is None or scale.size != 1 or zero.dtype != np.uint8:
        return None
    pixels = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 1, preprocess.channels))
    steps = np.rint(preprocess.normalized(pixels) / scale.reshape(())).astype(np.int64) + int(zero.reshape(()))
    same = np.array_equal(
        np.clip(steps, 0, 255).reshape(preprocess.channels, 256), np.tile(np.arange(256), (preprocess.channels, 1))
    )
    return node if same else None


def _read(graph: Graph, old: str, new: str) -> None:
    """Let all that reads the tensor `old` read `new`."""
    for node in graph.proto.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new


def prove(before: onnx.ModelProto, after: onnx.ModelProto, name: str, preprocess: Preprocess, last: bool) -> None:
    """Raise `CheckFailed` unless `after` gives for pixels what `before` gives for the same, normalized: equal bits."""
    rng = np.random.default_rng(SEED)
    pictures = [
        _every_value(preprocess),
        rng.integers(0, 256, (*preprocess.size, preprocess.channels)).astype(np.uint8),
    ]
    one, other = open_session(before, threads=1), open_session(after, threads=1)
    for picture in pictures:
        given = preprocess.arranged(picture)
        want, got = one({name: preprocess.floats(given, last)[None]}), other({name: given[None]})
        if not _equal(list(want.values()), list(got.values())):
            raise CheckFailed(f"--input {preprocess.input}: the outputs are not equal to the bit; leave it out")


def _every_value(preprocess: Preprocess) -> Array:
    """uint8 (H, W, C) with all grey levels, as far as there is room."""
    levels = np.arange(preprocess.size[0] * preprocess.size[1], dtype=np.int64).astype(np.uint8)
    return np.repeat(levels.reshape(*preprocess.size, 1), preprocess.channels, axis=2)


def _equal(want: Sequence[Array], got: Sequence[Array]) -> bool:
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(want, got, strict=True))
