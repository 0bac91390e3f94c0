"""How float16 does on this network, measured on a CPU: the range of each tensor, and each node's own rounding error.

    range        max |y|                               of the float32 graph; must leave a factor of `HEADROOM`
    own error    || h(f(h(x), h(w))) - y || / || y ||  one node alone in float16, on float32 inputs; h rounds to float16

    emulated     f16 node  ->  Cast to f32, the same node in f32, Cast to f16: what tensor cores do, which add in f32

ONNX Runtime's CPU provider runs a float16 graph in float32 from end to end and rounds nowhere between two nodes, so
that an overflow that ruins it on a GPU does not show; the emulated graph has explicit Casts, which are kept.
Test: tests/test_half.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters.fp16.half import LARGEST, Half, Plan, plan, write
from exporters.fp16.half_types import element_types
from exporters.graph import Graph, copy_model, copy_node
from runtimes.base import Tensors, Track, silent
from runtimes.session import open_session

HEADROOM = 4.0
"""Another image may be so many times larger than those that were seen."""
OWN_LIMIT = 5e-3
"""Rounding inputs, weights and output leaves 3e-4 to 6e-4 of a node's output; ten times that is a node that cancels."""
_SCORES, _READ = ("largest", "noise", "signal"), "size"


def convert(
    model: onnx.ModelProto,
    feeds: Sequence[Tensors],
    exclude: Sequence[str] = (),
    threads: int | None = None,
    track: Track = silent,
) -> Half:
    """`model` in float16, with what `feeds` show to be too large or too far off kept in float32, with the reason."""
    first = plan(model, exclude)
    if not first.half:
        return write(model, first)
    return write(model, plan(model, exclude, sensitive(model, first, feeds, threads, track)))


def sensitive(
    model: onnx.ModelProto, chosen: Plan, feeds: Sequence[Tensors], threads: int | None = None, track: Track = silent
) -> dict[str, str]:
    """First output -> reason, for the nodes of `chosen` that float16 does not suit on `feeds`."""
    worst: dict[str, tuple[float, float]] = {}
    probe = _Probe(model, chosen)
    session = open_session(probe.model(), threads=threads)
    for feed in track(feeds, "measuring float16"):
        seen = session(feed)
        for name, outputs in probe.outputs.items():
            for output in outputs:
                largest, noise, signal = (float(seen[f"{output}/{score}"]) for score in _SCORES)
                error = float(np.sqrt(noise / signal)) if signal > 0 else (0.0 if noise == 0 else np.inf)
                error = np.inf if np.isnan(error) else error
                before = worst.get(name, (0.0, 0.0))
                worst[name] = max(before[0], largest), max(before[1], error)
            reads = [float(seen[f"{read}/{_READ}"]) for read in probe.read[name]]
            worst[name] = max(worst[name][0], *reads, 0.0), worst[name][1]
    return {name: reason for name, (largest, error) in worst.items() if (reason := _reason(largest, error))}


def _reason(largest: float, error: float) -> str:
    if not largest * HEADROOM <= LARGEST:
        return f"reaches {largest:.3g}; float16 ends at 65,504 and {HEADROOM:g} times as much must fit"
    if error == np.inf:
        return "alone in float16 it is infinite or NaN: what it reads does not fit"
    return f"alone in float16 it is off by {error:.1%}, more than {OWN_LIMIT:.1%}" if not error <= OWN_LIMIT else ""


class _Probe:
    """The float32 graph, and beside every node of the plan a twin that rounds, with three numbers that compare each of
    its outputs, and how large what it reads in float32 is.
    """

    def __init__(self, model: onnx.ModelProto, chosen: Plan) -> None:
        self.graph, self.chosen = Graph(model), chosen
        self.twins: dict[str, str] = {}
        planned = {node.output[0]: node for node in self.graph.proto.node if self._is_planned(node)}
        self.outputs = {name: [node.output[i] for i in chosen.half[name][1]] for name, node in planned.items()}
        made = {output for outputs in self.outputs.values() for output in outputs}
        self.read = {
            name: [read for i in chosen.half[name][0] if self._is_cast(read := node.input[i], made)]
            for name, node in planned.items()
        }
        self.measured: set[str] = set()

    def _is_planned(self, node: onnx.NodeProto) -> bool:
        return bool(node.output) and node.output[0] in self.chosen.half

    def _is_cast(self, name: str, made: set[str]) -> bool:
        """Whether tensor `name` comes to float16 from float32, and is no constant."""
        return bool(name) and name not in made and self.graph.constant(name) is None

    def model(self) -> onnx.ModelProto:
        nodes: list[onnx.NodeProto] = []
        for node in list(self.graph.proto.node):
            nodes.append(copy_node(node))
            if self._is_planned(node):
                nodes += self.twin(node)
        del self.graph.proto.output[:]
        scores = [f"{output}/{score}" for outputs in self.outputs.values() for output in outputs for score in _SCORES]
        scores += [f"{name}/{_READ}" for name in sorted(self.measured)]
        self.graph.proto.output.extend(helper.make_tensor_value_info(s, TensorProto.FLOAT, ()) for s in scores)
        self.graph.set_nodes(nodes)
        return self.graph.model

    def twin(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        name, copy = node.output[0], copy_node(node)
        nodes: list[onnx.NodeProto] = []
        for i in self.chosen.half[name][0]:
            copy.input[i] = self.rounded(node.input[i], nodes)
        copy.output[:] = [f"{output}/twin" if output else "" for output in node.output]
        copy.name = f"{name}/twin"  # nodes need no name of their own, and tensors have one
        nodes.append(copy)
        for output in self.outputs[name]:
            nodes += _round_trip(f"{output}/twin", f"{output}/rounded")
            nodes.append(helper.make_node("Sub", [f"{output}/rounded", output], [f"{output}/apart"]))
            nodes.append(helper.make_node("Abs", [output], [f"{output}/abs"]))
            for op, source, score in zip(
                ("ReduceMax", "ReduceSumSquare", "ReduceSumSquare"), ("abs", "apart", "abs"), _SCORES, strict=True
            ):
                nodes.append(helper.make_node(op, [f"{output}/{source}"], [f"{output}/{score}"], keepdims=0))
        for read in self.read[name]:
            if read not in self.measured:
                self.measured.add(read)
                nodes.append(helper.make_node("Abs", [read], [f"{read}/read"]))
                nodes.append(helper.make_node("ReduceMax", [f"{read}/read"], [f"{read}/{_READ}"], keepdims=0))
        return nodes

    def rounded(self, name: str, nodes: list[onnx.NodeProto]) -> str:
        """Tensor `name` as float16 holds it, in float32."""
        if name not in self.twins:
            value = self.graph.constant(name)
            if value is not None:
                value = value.astype(np.float16).astype(np.float32)
                self.twins[name] = self.graph.add_constant(value, f"{name}/half")
            else:
                self.twins[name] = f"{name}/half"
                nodes += _round_trip(name, self.twins[name])
        return self.twins[name]


def _round_trip(source: str, target: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", [source], [f"{target}/f16"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{target}/f16"], [target], to=TensorProto.FLOAT),
    ]


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every float16 node computed in float32 and rounded at once: what a GPU gives, on any CPU."""
    types = element_types(model)
    result = copy_model(model)
    halves = {name for name, kind in types.items() if kind.elem_type == TensorProto.FLOAT16}
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        nodes += _in_float(copy_node(node), halves) if node.op_type not in ("Cast", "Constant") else [copy_node(node)]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def _in_float(node: onnx.NodeProto, halves: set[str]) -> list[onnx.NodeProto]:
    """`node` with its float16 inputs and outputs cast, so that it computes in float32."""
    before, behind = [], []
    mark = next((name for name in node.output if name), node.name)
    for i, name in enumerate(node.input):
        if name in halves:
            node.input[i] = f"{mark}/{i}/f32"
            before.append(helper.make_node("Cast", [name], [node.input[i]], to=TensorProto.FLOAT))
    for i, name in enumerate(node.output):
        if name in halves:
            node.output[i] = f"{name}/f32"
            behind.append(helper.make_node("Cast", [node.output[i]], [name], to=TensorProto.FLOAT16))
    return [*before, node, *behind]
