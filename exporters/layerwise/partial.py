"""Run a part of a graph: the nodes between some tensors and others, as a model of its own, weights fed like inputs.

    x ──> a ──> b ──> c ──> d          Parts(model).part(["c"], inputs=["a"])        a ──> b ──> c

A part that ONNX Runtime refuses (shapes that do not meet, an axis that does not exist) is an answer, not an accident.
Nothing of the whole model is copied but what the part reads; its weights are fed, so that ONNX Runtime
keeps no copy of them.
Test: tests/test_partial.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporters.external import copy_fields
from exporters.graph import captured_names, get_meta, is_standard
from exporters.shape_inference import Types, tensor_types
from runtimes.base import Array, Tensors
from runtimes.session import Session, open_session

LARGE_BYTES = 16384
"""Larger weights are fed as inputs, from where they lie; smaller ones may be shapes, which must be known earlier."""
Dtypes = Mapping[str, np.dtype]  # type: ignore[type-arg]
LAYOUT_KEY = "edgecnn.layout"
"""Node metadata of what a comparison put into a graph: `there`, behind which a tensor looks as in the other graph, and
`back`."""


class Parts:
    """What hands out the parts of a model. It keeps large weights as arrays, and of `model` itself nothing."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if _is_large(t)}
        self.model = _light(model, self.arrays)
        model = self.model
        self.nodes = list(model.graph.node)
        self.place = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        self.small = {tensor.name: tensor for tensor in model.graph.initializer}
        self.weights = {*self.small, *self.arrays}
        self.inputs = {value.name: value for value in model.graph.input}
        self.outputs = [value.name for value in model.graph.output]
        self.reads = [
            tuple(dict.fromkeys(name for name in (*node.input, *captured_names(node)) if name)) for node in self.nodes
        ]

    def needed(self, outputs: Collection[str], inputs: Collection[str] = ()) -> list[int]:
        """Places of the nodes that make `outputs` from `inputs`, the model's inputs and constants, in graph order."""
        found: set[int] = set()
        wait = [self.place[name] for name in outputs if name in self.place and name not in inputs]
        while wait:
            here = wait.pop()
            if here not in found:
                found.add(here)
                wait += [self.place[n] for n in self.reads[here] if n in self.place and n not in inputs]
        return sorted(found)

    def rewired(self, nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto]) -> Parts:
        """The same model with other nodes and further constants; weights are shared."""
        model = onnx.ModelProto()
        copy_fields(self.model, model, skip=("graph",))
        copy_fields(self.model.graph, model.graph, skip=("node",))
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(constants)
        made = Parts(model)
        made.arrays |= self.arrays
        made.weights |= set(self.arrays)
        return made

    def types(self) -> Types:
        """Element type and shape of every tensor that can be told; raises `BadInput` when onnx cannot infer."""
        typed = onnx.ModelProto()
        typed.CopyFrom(self.model)
        own = {value.name for value in typed.graph.input}
        for name, value in self.arrays.items():
            if name not in own:
                dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
                typed.graph.input.append(helper.make_tensor_value_info(name, dtype, value.shape))
        return tensor_types(typed)

    def part(self, outputs: Sequence[str], inputs: Dtypes | None = None) -> tuple[onnx.ModelProto, dict[str, Array]]:
        """The model that makes `outputs`; `inputs` are tensors that are fed.

        Large weights are inputs, too; their values are returned beside it.
        """
        given = inputs or {}
        kept = self.needed(outputs, given)
        read = {name for i in kept for name in self.reads[i]} | set(outputs)
        used = [tensor for name, tensor in self.small.items() if name in read and name not in given]
        large = {name: value for name, value in self.arrays.items() if name in read and name not in given}
        made = onnx.ModelProto()
        copy_fields(self.model, made, skip=("graph", "metadata_props", "training_info"))
        made.graph.name = "part"
        made.graph.node.extend(self.nodes[i] for i in kept)
        fed = {**given, **{name: value.dtype for name, value in large.items()}}
        made.graph.input.extend(value for name, value in self.inputs.items() if name in read and name not in fed)
        made.graph.input.extend(_fed(name, dtype) for name, dtype in fed.items() if name in read)
        made.graph.initializer.extend(used)
        made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return made, large

    def open(
        self,
        outputs: Sequence[str],
        inputs: Dtypes | None = None,
        *,
        threads: int | None = None,
        subject: str = "part",
    ) -> Part:
        """That part, ready to run; raises `BadInput` when ONNX Runtime cannot load it."""
        made, large = self.part(outputs, inputs)
        return Part(open_session(made, threads=threads, optimize=False, subject=subject, frugal=True), large)

    def segment(self, output: str, inputs: Collection[str]) -> list[onnx.NodeProto]:
        """The nodes between `inputs` and `output`."""
        return [self.nodes[i] for i in self.needed([output], inputs)]

    def cut_out(self, outputs: Sequence[str], inputs: Tensors) -> onnx.ModelProto:
        """That part as a model with its weights inside, to be written to a file."""
        made, large = self.part(outputs, {name: value.dtype for name, value in inputs.items()})
        kept = [value for value in made.graph.input if value.name not in large]
        del made.graph.input[:]
        made.graph.input.extend(kept)
        made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in large.items())
        return made


def _is_large(tensor: onnx.TensorProto) -> bool:
    return len(tensor.dims) > 1 and tensor.ByteSize() >= LARGE_BYTES


def _light(model: onnx.ModelProto, arrays: Collection[str]) -> onnx.ModelProto:
    """`model` without the initializers `arrays`."""
    light = onnx.ModelProto()
    copy_fields(model, light, skip=("graph",))
    copy_fields(model.graph, light.graph, skip=("initializer",))
    light.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name not in arrays)
    return light


def _fed(name: str, dtype: np.dtype) -> onnx.ValueInfoProto:  # type: ignore[type-arg]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), None)


@dataclass(frozen=True)
class Part:
    """A part of a graph, loaded, and the weights that it is fed."""

    session: Session
    weights: dict[str, Array]

    def __call__(self, feeds: Tensors) -> dict[str, Array]:
        """Its outputs, given those of `feeds` that it wants."""
        given = {**feeds, **self.weights}
        return self.session({info.name: given[info.name] for info in self.session.inputs if info.name in given})


CARRIERS = ("QuantizeLinear", "DequantizeLinear", "Identity", "Dropout", "Cast", "Reshape", "Transpose", "Flatten",
            "Squeeze", "Unsqueeze", "Constant", "Slice", "Pad")  # fmt: skip
"""Operators that move numbers from form to form: the layer is what stands before or between them."""


def computes(node: onnx.NodeProto) -> bool:
    return not is_layout(node) and not any(is_standard(node, op) for op in CARRIERS)


def is_layout(node: onnx.NodeProto, *ways: str) -> bool:
    """Whether a comparison put `node` there (one of `ways`), to lay out otherwise what the node before it made."""
    return get_meta(node).get(LAYOUT_KEY) in (ways or ("there", "back"))


def main_node(nodes: Sequence[onnx.NodeProto]) -> onnx.NodeProto:
    """The node that a segment is about: the last one that computes, else the last one that moves, else the last one."""
    own = [node for node in nodes if not is_layout(node)]
    moving = [node for node in own if not any(is_standard(node, op) for op in ("QuantizeLinear", "DequantizeLinear"))]
    return ([node for node in own if computes(node)] or moving or own or list(nodes))[-1]
