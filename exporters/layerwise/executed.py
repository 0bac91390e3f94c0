"""The graph that ran, kernel by kernel, each told by the node of the file that it came from.

    file   Conv c -> Relu r -> Conv d      ran   ReorderInput         from no node: it was put in
                                                 r_nchwc (Conv)       from c, with r inside
                                                 d_nchwc (Conv)       from d

ONNX Runtime saves the graph that it runs, so that what stands between two kernels is read off it and not guessed. Nodes
of the file get names of their own first, where they have none or share one: the profile knows nodes by name only.
Source: names as ONNX Runtime's optimizers give them. Test: tests/test_executed.py.
"""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx
import onnx.inliner
from onnx import helper

from exporters.graph import Graph, copy_model, label, nodes_within
from exporters.layerwise.layer_times import named_in, origin
from runtimes.census import NodeRun, Pass, Typed

Kind = Literal["int8", "float", "quantize", "layout", "other"]
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
LAYOUT = ("ReorderInput", "ReorderOutput", "Transpose")
INTEGER_OPS = ("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm")
BYTE_TYPES = ("uint8", "int8")
FLOAT_TYPES = ("float", "float16", "double", "bfloat16")


@dataclass(frozen=True)
class Executed:
    """One kernel, with a time for each profiled run. `origin` is a node of the file, "" for what was put in.

    `reads` and `makes` are tensors of the graph that ran; `moved_bytes` are activations and weights, read or written.
    """

    kernel: str
    op: str
    provider: str
    origin: str
    times_us: tuple[float, ...]
    inputs: tuple[Typed, ...]
    outputs: tuple[Typed, ...]
    moved_bytes: int
    reads: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()

    @property
    def time_us(self) -> float:
        """Median over the runs."""
        return statistics.median(self.times_us)

    @property
    def kind(self) -> Kind:
        """What it works on: bytes, floats, the change from one to the other, or only the order of the elements."""
        if self.op in QUANTIZERS:
            return "quantize"
        if self.op in LAYOUT and not self.origin:
            return "layout"
        made = self.outputs[0][0] if self.outputs else ""
        if made in BYTE_TYPES or self.op.startswith("QLinear") or self.op in INTEGER_OPS:
            return "int8"
        return "float" if made in FLOAT_TYPES else "other"


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, or a copy of it with functions inlined and a name of its own for every node, if it needs that."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    counts = collections.Counter(node.name for node in nodes_within(model.graph.node))
    if "" not in counts and max(counts.values(), default=1) == 1:
        return model
    copy = copy_model(model)
    taken = {name for name, count in counts.items() if name and count == 1}
    for node in nodes_within(copy.graph.node):
        if not node.name or counts[node.name] > 1:
            node.name = _fresh(label(node), taken)
    return copy


def executed(runs: Sequence[Pass], ran: onnx.ModelProto, file: Graph) -> tuple[Executed, ...]:
    """The kernels of `runs`, in the order of the first, out of the graph `ran` that was made from `file`."""
    once = {run.node: run for each in runs for run in each.nodes}
    nodes = _nodes_that_ran(once.values(), ran)
    sizes = {tensor.name: _bytes(tensor) for tensor in ran.graph.initializer}
    names, taken = named_in(file.proto.node), set[str]()
    totals = [_totals(run.nodes) for run in runs]
    found = []
    for run in once.values():
        node = nodes.get(run.node)
        source = origin(run, file, names, taken, tuple(node.output) if node is not None else ())
        if source is not None:
            taken.add(label(source))
        times = tuple(total.get(run.node, 0.0) for total in totals)
        found.append(_kernel(run, node, source, times, sizes))
    return _parts_joined(found)


def _nodes_that_ran(runs: Iterable[NodeRun], ran: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Kernel -> its node in `ran`. One without a name is called `HardSigmoid_17`: those of an operator go in order."""
    unnamed: dict[str, list[onnx.NodeProto]] = collections.defaultdict(list)
    nodes = named_in(ran.graph.node)
    for node in ran.graph.node:
        if not node.name:
            unnamed[node.op_type].append(node)
    for run in runs:
        if run.node not in nodes and unnamed[run.op]:
            nodes[run.node] = unnamed[run.op].pop(0)
    return nodes


def _parts_joined(kernels: Sequence[Executed]) -> tuple[Executed, ...]:
    """A kernel that computes and has no origin is part of a node that was taken apart: that of whoever reads it."""
    readers = {name: kernel.kernel for kernel in reversed(kernels) for name in kernel.reads}
    joined: dict[str, Executed] = {}
    for kernel in reversed(kernels):
        if not kernel.origin and kernel.op not in (*LAYOUT, *QUANTIZERS):
            reader = next((readers[name] for name in kernel.makes if name in readers), "")
            kernel = replace(kernel, origin=joined[reader].origin) if reader in joined else kernel
        joined[kernel.kernel] = kernel
    return tuple(joined[kernel.kernel] for kernel in kernels)


def _kernel(
    run: NodeRun, node: onnx.NodeProto | None, source: onnx.NodeProto | None, times: tuple[float, ...],
    sizes: Mapping[str, int],
) -> Executed:  # fmt: skip
    reads = tuple(name for name in node.input if name and name not in sizes) if node is not None else ()
    weights = run.weight_bytes if node is None else sum(sizes.get(name, 0) for name in node.input)
    return Executed(
        run.node, run.op, run.provider, label(source) if source is not None else "", times, run.inputs, run.outputs,
        run.moved_bytes + weights, reads, tuple(node.output) if node is not None else (),
    )  # fmt: skip


def _totals(runs: Iterable[NodeRun]) -> Mapping[str, float]:
    """Time by name in one run; a node in the body of a Loop runs many times."""
    found: dict[str, float] = collections.defaultdict(float)
    for run in runs:
        found[run.node] += run.time_us
    return found


def _bytes(tensor: onnx.TensorProto) -> int:
    return int(math.prod(tensor.dims) * np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize)


def _fresh(hint: str, taken: set[str]) -> str:
    name, count = hint, 0
    while name in taken:
        count += 1
        name = f"{hint}_{count}"
    taken.add(name)
    return name
