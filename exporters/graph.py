"""A model's graph with an index: who makes a tensor, who reads it, what is constant. Edits keep the index true.

`Graph(model)` copies the model, so that a pass can edit freely and its argument stays as it was.
Test: tests/test_graph.py.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from runtimes.base import Array

MODULE_KEY = "edgecnn.module"
"""Node metadata: the path of the PyTorch module that the node came from, e.g. `layer1.0.conv1`."""

ABSORBED_KEY = "edgecnn.absorbed"
"""Node metadata: the names of the nodes that were folded into this one, one a line, in the order of folding."""

WEIGHT_INPUT = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Which input of a convolution is its weight."""


class Graph:
    """An editable copy of `model` (main graph only) with `producer`, `consumers` and `initializers` indices.

    Not `copied`, it is an index of `model` itself, for those who only read: a copy is a copy of all weights.
    """

    def __init__(self, model: onnx.ModelProto, *, copied: bool = True) -> None:
        self.model = model
        if copied:
            self.model = onnx.ModelProto()
            self.model.CopyFrom(model)
        self.proto = self.model.graph
        self._reserved: set[str] = set()
        self.reindex()

    def reindex(self) -> None:
        """Build the index anew after edits that went around this class."""
        self.inputs = {value.name for value in self.proto.input}
        self.outputs = {value.name for value in self.proto.output}
        self.initializers = {tensor.name: tensor for tensor in self.proto.initializer}
        self.producer: dict[str, onnx.NodeProto] = {}
        self.consumers: dict[str, list[onnx.NodeProto]] = collections.defaultdict(list)
        self.captured: set[str] = set()
        for node in self.proto.node:
            self._enrol(node)

    def _enrol(self, node: onnx.NodeProto) -> None:
        for name in node.output:
            self.producer[name] = node
        for name in node.input:
            self.consumers[name].append(node)
        self.captured |= captured_names(node)

    # ------------------------------------------------------------------------------------------------ questions
    def only_consumer(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads tensor `name`; None when it is a graph output, captured by a body, or read twice."""
        readers = self.consumers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs and name not in self.captured else None

    def constant(self, name: str) -> Array | None:
        """The value of tensor `name` if nobody can change it: an initializer no caller may override, or a Constant."""
        tensor = self.initializers.get(name)
        if tensor is not None:
            return None if name in self.inputs else numpy_helper.to_array(tensor)
        node = self.producer.get(name)
        if node is not None and is_standard(node, "Identity"):
            return self.constant(node.input[0])
        return constant_value(node) if node is not None and is_standard(node, "Constant") else None

    def why_not_only(self, name: str) -> str:
        """Why `only_consumer(name)` is None, as the end of a sentence; empty when there is one."""
        if name in self.outputs:
            return "is also an output of the model"
        if name in self.captured:
            return "is also read inside a body (If, Loop or Scan)"
        return f"is read {len(self.consumers[name])} times" if self.only_consumer(name) is None else ""

    def taken(self, name: str) -> bool:
        return (
            name in self.producer
            or name in self.initializers
            or name in self.inputs
            or name in self.consumers
            or name in self.captured
            or name in self._reserved
        )

    def fresh(self, hint: str) -> str:
        """`hint`, or `hint_1`, `hint_2` ... : a tensor name nobody uses."""
        name, count = hint, 0
        while self.taken(name):
            count += 1
            name = f"{hint}_{count}"
        self._reserved.add(name)  # its node may join the graph only later
        return name

    # ---------------------------------------------------------------------------------------------------- edits
    def add_constant(self, value: Array, hint: str) -> str:
        """Add an initializer and return its (fresh) name."""
        name = self.fresh(hint)
        self.proto.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        self.initializers[name] = self.proto.initializer[-1]
        return name

    def set_constant(self, node: onnx.NodeProto, index: int, value: Array, hint: str) -> None:
        """Make `value` input `index` of `node`, under the old name when nobody else reads the old initializer.

        Whatever else reads the old tensor keeps it; when nobody does, it goes.
        """
        node.input.extend([""] * (index + 1 - len(node.input)))
        old = node.input[index]
        if old in self.initializers and old not in self.inputs and self.only_consumer(old) is node:
            self.initializers[old].CopyFrom(numpy_helper.from_array(np.asarray(value, order="C"), old))
            self.forget(old)
            return
        node.input[index] = self.add_constant(value, hint)
        self.consumers[node.input[index]].append(node)
        kept = [r for r in self.consumers.pop(old, []) if r is not node] + [node] * [*node.input].count(old)
        self.consumers |= {old: kept} if kept else {}
        self.drop_unread([old])

    def drop_unread(self, names: Iterable[str]) -> None:
        """Drop the initializers, Constants and Identities behind `names` that nobody reads any more."""
        for name in names:
            if not name or self.consumers.get(name) or name in self.outputs or name in self.captured:
                continue
            node = self.producer.get(name)
            if node is not None and (is_standard(node, "Identity") or is_standard(node, "Constant")):
                behind = list(node.input)
                self.replace([node], [])
                self.drop_unread(behind)
            elif name in self.initializers and name not in self.inputs:
                del self.initializers[name]
                del self.proto.initializer[[tensor.name for tensor in self.proto.initializer].index(name)]

    def forget(self, name: str) -> None:
        """Drop the recorded type and shape of tensor `name`, which an edit made untrue."""
        for value in [v for v in self.proto.value_info if v.name == name]:
            self.proto.value_info.remove(value)

    def replace(self, old: Iterable[onnx.NodeProto], new: Iterable[onnx.NodeProto]) -> None:
        """Put the nodes `new` where the last of `old` stood, and drop `old`."""
        self.replace_all([(old, new)])

    def replace_all(self, pairs: Iterable[tuple[Iterable[onnx.NodeProto], Iterable[onnx.NodeProto]]]) -> None:
        """The same for every (`old`, `new`) of `pairs`, which share no node: indexing again costs as much as one."""
        place = {id(node): i for i, node in enumerate(self.proto.node)}
        gone: set[int] = set()
        behind: dict[int, Iterable[onnx.NodeProto]] = {}
        for old, new in pairs:
            places = [place[id(node)] for node in old if id(node) in place]
            gone.update(places)
            behind[max(places)] = new
        nodes: list[onnx.NodeProto] = []
        for i, node in enumerate(self.proto.node):
            if i not in gone:
                nodes.append(node)
            nodes.extend(behind.get(i, ()))
        self.set_nodes(nodes)

    def swap(self, node: onnx.NodeProto, reader: onnx.NodeProto, hint: str) -> None:
        """Put `reader`, which alone reads `node`, in front of it; both keep their names, `hint` is the name between."""
        first, second = copy_node(reader), copy_node(node)
        first.input[0] = node.input[0]
        first.output[0] = self.fresh(hint)
        second.input[0] = first.output[0]
        second.output[0] = reader.output[0]
        self.forget(node.output[0])
        self.replace([node, reader], [first, second])

    def set_nodes(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Replace the node list by `nodes` (in this order) and index again."""
        kept = [copy_node(node) for node in nodes]
        del self.proto.node[:]
        self.proto.node.extend(kept)
        self.reindex()

    def redirect(self, old: str, new: str) -> None:
        """Every reader of tensor `old` reads `new` from now on (graph outputs are not renamed)."""
        for node in list(self.consumers.get(old, [])):
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new
        self.reindex()

    def prune(self) -> int:
        """Drop nodes nobody needs and initializers nobody reads (graph inputs stay); returns how many nodes went."""
        needed = set(self.outputs)
        kept: list[onnx.NodeProto] = []
        for node in reversed(self.proto.node):
            if any(name in needed for name in node.output if name):
                kept.append(node)
                needed |= set(node.input) | captured_names(node)
        gone = len(self.proto.node) - len(kept)
        if gone:
            self.set_nodes(reversed(kept))
        used = {name for node in kept for name in node.input} | self.captured | self.outputs
        names = [tensor.name for tensor in self.proto.initializer]
        unread = [i for i, name in enumerate(names) if name not in used and name not in self.inputs]
        for i in reversed(unread):  # in place: a copy of those that stay is a copy of most weights
            del self.proto.initializer[i]
        if unread:
            self.reindex()
        for value in [
            v for v in self.proto.value_info if v.name not in self.producer and v.name not in self.initializers
        ]:
            self.proto.value_info.remove(value)
        return gone


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The node's attributes as Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def constant_value(node: onnx.NodeProto) -> Array | None:
    """The value of a Constant node (dense forms only)."""
    for a in node.attribute:
        if a.name == "value":
            return numpy_helper.to_array(a.t)
        if a.name in ("value_float", "value_floats"):
            return np.asarray(helper.get_attribute_value(a), np.float32)
        if a.name in ("value_int", "value_ints"):
            return np.asarray(helper.get_attribute_value(a), np.int64)
    return None


def is_standard(node: onnx.NodeProto, op_type: str) -> bool:
    """Whether `node` is the ONNX standard's own `op_type`, and not an operator of that name in another domain."""
    return node.op_type == op_type and node.domain in ("", "ai.onnx")


def label(node: onnx.NodeProto) -> str:
    """How messages call a node: its name, or the first tensor it makes."""
    return node.name or next((name for name in node.output if name), node.op_type)


def own_module(node: onnx.NodeProto) -> str:
    """Path of the PyTorch module that `node` says it came from, empty where it says nothing."""
    return get_meta(node).get(MODULE_KEY, "")


def keep_module(node: onnx.NodeProto, like: onnx.NodeProto) -> None:
    """Let `node` say that it came from the module that `like` came from."""
    set_meta(node, {key: value for key, value in get_meta(like).items() if key == MODULE_KEY})


def nodes_within(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """`nodes` and all nodes in their bodies (If, Loop, Scan)."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from nodes_within(body.node)


def captured_names(node: onnx.NodeProto) -> set[str]:
    """Names that the bodies of If, Loop or Scan inside `node` read from outside (an over-estimate is fine)."""
    found: set[str] = set()
    for a in node.attribute:
        for body in [a.g] if a.type == onnx.AttributeProto.GRAPH else a.graphs:
            for inner in body.node:
                found |= set(inner.input) | captured_names(inner)
            found |= {value.name for value in body.output}
    return found


def copy_node(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def copy_model(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def copy_tensor(tensor: onnx.TensorProto) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    return copy


def op_counts(model: onnx.ModelProto) -> dict[str, int]:
    """How often each operator occurs in the main graph, most frequent first."""
    return dict(collections.Counter(node.op_type for node in model.graph.node).most_common())


def opset(model: onnx.ModelProto) -> int:
    """Version of the default operator set that the model imports; 0 when it imports none."""
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def free_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Graph inputs that a caller must feed; those with an initializer have a default."""
    given = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in given]


def get_meta(holder: Any) -> dict[str, str]:
    """`metadata_props` of a model or node as a dict."""
    return {p.key: p.value for p in holder.metadata_props}


def set_meta(holder: Any, values: Mapping[str, str]) -> None:
    """Set entries in `metadata_props` of a model or node, keeping the others, sorted by key (same bytes every time)."""
    merged = {**get_meta(holder), **values}
    del holder.metadata_props[:]
    for key in sorted(merged):
        holder.metadata_props.add(key=key, value=merged[key])
