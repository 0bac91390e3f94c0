"""A graph under fold: the model's own, or a body of If, Loop or Scan, with cheap edits and sight of what is outside.

    main graph  <-  body  <-  body in a body        names are looked up from the inside out, new ones are new everywhere

Nodes that go are marked and dropped at the end in one sweep, so that a model of a thousand nodes is not copied a
hundred times, and tensors of weights not at all. Test: tests/test_fold_bodies.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporters.fold.shapes import Inferred, Shape, inferred
from exporters.graph import Graph, captured_names, constant_value, copy_node, is_standard
from runtimes.base import Array


class Scope(Graph):
    """`Graph` over `proto` itself (no copy), inside `outer`. Call `finish()` when all edits are made.

    `original` is the model before any edit; shapes are inferred there.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        proto: onnx.GraphProto,
        outer: Scope | None = None,
        original: onnx.ModelProto | None = None,
    ) -> None:
        self.untouched = original or model
        self.model, self.proto, self.outer = model, proto, outer
        self._inferred: Inferred | None = None
        self.names: set[str] = outer.names if outer else names_within(model.graph)
        self.known: dict[str, bool] = {}
        self.numbers: dict[str, object] = {}
        """What constants.py has worked out."""
        self._gone: dict[int, onnx.NodeProto] = {}  # the nodes too: an id means nothing without its object
        self._late: dict[int, onnx.NodeProto] = {}
        self._early: list[onnx.NodeProto] = []
        self.reindex()

    # ------------------------------------------------------------------------------------------------ questions
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes that are left, in the graph's order; those put in by `insert_after` are not among them yet."""
        return [node for node in self.proto.node if id(node) not in self._gone]

    def holds(self, node: onnx.NodeProto) -> bool:
        return id(node) not in self._gone

    def shapes(self) -> dict[str, Shape]:
        """The shapes of the model's activations, which no fold changes."""
        return self._known().shapes

    def kinds(self) -> dict[str, int]:
        """The element types of the model's activations."""
        return self._known().kinds

    def _known(self) -> Inferred:
        if self.outer is not None:
            return self.outer._known()
        if self._inferred is None:
            self._inferred = inferred(self.untouched)
        return self._inferred

    def bodies(self) -> list[Scope]:
        """A scope for each body of this graph's nodes."""
        found: list[Scope] = []
        for node in self.proto.node:
            for attribute in node.attribute:
                graphs = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs
                found.extend(Scope(self.model, graph, self) for graph in graphs)
        return found

    def home(self, name: str) -> Scope | None:
        """The scope that defines tensor `name`."""
        if name in self.initializers or name in self.producer or name in self.inputs:
            return self
        return self.outer.home(name) if self.outer else None

    def tensor(self, name: str) -> onnx.TensorProto | None:
        """The initializer `name`, when no caller may override it."""
        scope = self.home(name)
        return None if scope is None or name in scope.inputs else scope.initializers.get(name)

    def maker(self, name: str) -> onnx.NodeProto | None:
        """The node, here or outside, that makes tensor `name`."""
        scope = self.home(name)
        return scope.producer.get(name) if scope else None

    def constant(self, name: str) -> Array | None:
        node = self.maker(name)
        while node is not None and is_standard(node, "Identity"):
            name = node.input[0]
            node = self.maker(name)
        if node is not None:
            return constant_value(node) if is_standard(node, "Constant") else None
        tensor = self.tensor(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def taken(self, name: str) -> bool:
        return name in self.names

    def fresh(self, hint: str) -> str:
        name = super().fresh(hint)
        self.names.add(name)
        return name

    # ---------------------------------------------------------------------------------------------------- edits
    def reindex(self) -> None:
        self._reserved: set[str] = set()
        super().reindex()

    def set_input(self, node: onnx.NodeProto, index: int, name: str) -> None:
        """`node` reads tensor `name` as its input `index` from now on."""
        node.input.extend([""] * (index + 1 - len(node.input)))
        self._unread(node.input[index], node)
        node.input[index] = name
        self.consumers[name].append(node)

    def set_output(self, node: onnx.NodeProto, name: str) -> None:
        """`node` makes tensor `name`, whose old maker is removed, instead of its own first output."""
        self.forget(node.output[0])
        self.producer.pop(node.output[0], None)
        node.output[0] = name
        self.producer[name] = node

    def remove(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Take `nodes` out; what they made has to be made or read by somebody else afterwards."""
        for node in nodes:
            self._gone[id(node)] = node
            for name in node.input:
                self._unread(name, node)
            for name in node.output:
                if self.producer.get(name) is node:
                    del self.producer[name]

    def insert_after(self, node: onnx.NodeProto, new: onnx.NodeProto) -> None:
        """Put `new` behind `node` in the order of the graph (one per node)."""
        self._late[id(node)] = new
        self._enrol(new)
        self.names |= set(new.output)

    def add_constant(self, value: Array, hint: str) -> str:
        """As `Graph.add_constant`; before IR version 4 a node, since every initializer had to be an input there."""
        if self.model.ir_version >= 4:
            return super().add_constant(value, hint)
        name = self.fresh(hint)
        tensor = numpy_helper.from_array(np.asarray(value, order="C"))
        self._early.append(helper.make_node("Constant", [], [name], name, value=tensor))
        self._enrol(self._early[-1])
        return name

    def set_constant(self, node: onnx.NodeProto, index: int, value: Array, hint: str) -> None:
        """As `Graph.set_constant`: under the old name when nobody else reads the old tensor."""
        old = node.input[index] if index < len(node.input) else ""
        if old in self.initializers and old not in self.inputs and self.only_consumer(old) is node:
            self.initializers[old].CopyFrom(numpy_helper.from_array(np.asarray(value, order="C"), old))
            self.forget(old)
            self.numbers.pop(old, None)
        else:
            self.set_input(node, index, self.add_constant(value, hint))
            self.drop_unread([old])

    def drop_unread(self, names: Iterable[str]) -> None:
        """As `Graph.drop_unread`, with every constant expression; tensors outside this scope are left alone."""
        for name in names:
            if not name or self.consumers.get(name) or name in self.outputs or name in self.captured:
                continue
            node = self.producer.get(name)
            if node is not None and all(self._idle(other) for other in node.output):
                behind = list(node.input)
                self.remove([node])
                self.drop_unread(behind)
            elif name in self.initializers and name not in self.inputs:
                del self.initializers[name]

    def _idle(self, name: str) -> bool:
        return not self.consumers.get(name) and name not in self.outputs and name not in self.captured

    def _unread(self, name: str, node: onnx.NodeProto) -> None:
        readers = self.consumers.get(name, [])
        for i, reader in enumerate(readers):
            if reader is node:
                del readers[i]
                return

    def finish(self) -> None:
        """Carry out removals and insertions, and index the bodies again."""
        if self._late or self._early:
            pairs = [(node, self._late.get(id(node))) for node in (*self._early, *self.proto.node)]
            kept = [copy_node(node) for pair in pairs for node in pair if node is not None and self.holds(node)]
            del self.proto.node[:]
            self.proto.node.extend(kept)
        else:
            _delete(self.proto.node, [id(node) in self._gone for node in self.proto.node])
        _delete(self.proto.initializer, [tensor.name not in self.initializers for tensor in self.proto.initializer])
        self._gone, self._late, self._early = {}, {}, []
        self.reindex()
        there = {*self.producer, *self.initializers, *self.inputs}
        _delete(self.proto.value_info, [value.name not in there for value in self.proto.value_info])


def _delete(messages: Any, gone: list[bool]) -> None:
    for i in reversed([i for i, out in enumerate(gone) if out]):
        del messages[i]


def names_within(graph: onnx.GraphProto) -> set[str]:
    """Every tensor name of `graph` and of the bodies in it."""
    names = {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    names |= {tensor.name for tensor in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    for node in graph.node:
        names |= set(node.input) | set(node.output) | captured_names(node)
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs
            for body in graphs:
                names |= names_within(body)
    return names
