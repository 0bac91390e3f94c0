"""Chains of affines that the linear operators after them absorb.

    x -> BatchNormalization -> Conv -> y          x -> Conv' -> y          only where no padded zero would have to move

All readers must be linear, and each gets its own copy. As many affines as can be, from the operators back, are taken
together. Test: tests/test_fold_front.py.
"""

from __future__ import annotations

import onnx

from exporters.base import Change
from exporters.fold.affine_chain import Affine, compose
from exporters.fold.linear import Layer, fold, is_linear, layer_of, pads, write
from exporters.fold.recognize import KeepIt, Layout, NoAffine, Step, step
from exporters.fold.scope import Scope
from exporters.graph import attributes, is_standard, label
from runtimes.base import BadInput


def linear_readers(scope: Scope, name: str) -> list[onnx.NodeProto]:
    """The linear nodes that read tensor `name` as what they work on."""
    return [node for node in scope.consumers.get(name, []) if is_linear(node) and node.input[0] == name]


def fold_front(scope: Scope, node: onnx.NodeProto) -> list[Change]:
    """Fold `node` and what comes before it into all operators that read it. Raises `KeepIt`."""
    layers = _layers(scope, node.output[0])
    chain = _chain(scope, layers, node)
    reason: KeepIt = NoAffine("it computes something else than a factor and a summand for each channel")
    for start in range(len(chain)):
        try:
            affine = compose(s.affine for s in chain[start:])
            folded = [fold(scope, layer, front=_safe(layer, affine)) for layer in layers]
        except KeepIt as error:
            reason = error
            continue
        taken = chain[start:]
        names = [label(s.node) for s in taken]
        into = ", ".join(f"{layer.node.op_type} {label(layer.node)}" for layer in layers)
        bound = max(one.bound for one in folded)
        for one in folded:
            write(scope, one, taken[-1].node, names)
            scope.set_input(one.layer.node, 0, taken[0].source)
        scope.remove([s.node for s in taken])
        scope.drop_unread([name for s in taken for name in s.parameters])
        return [Change(name, f"folded into the next {into}", bound) for name in names]
    raise reason


def _layers(scope: Scope, name: str) -> list[Layer]:
    if name in scope.outputs:
        raise KeepIt("its own output is an output of the graph")
    if name in scope.captured:
        raise KeepIt("its own output is read inside a body (If, Loop or Scan)")
    readers = scope.consumers.get(name, [])
    for reader in readers:
        if not is_linear(reader):
            raise KeepIt(f"the next operator is {reader.op_type} {label(reader)}")
        if list(reader.input).count(name) != 1 or reader.input[0] != name:
            raise KeepIt(f"it makes a parameter of {label(reader)}")
        if is_standard(reader, "Gemm") and attributes(reader).get("transA", 0):
            raise KeepIt(f"Gemm {label(reader)} transposes it")
    layers = [layer_of(scope, reader) for reader in readers]
    if not layers or any(layer.layout != layers[0].layout or layer.inputs != layers[0].inputs for layer in layers):
        raise KeepIt("nobody reads it" if not layers else "its readers see different channels")
    return layers


def _chain(scope: Scope, layers: list[Layer], node: onnx.NodeProto | None) -> list[Step]:
    """The affines up to `node`, each read by the next one only; without Identities at the start."""
    found: list[Step] = []
    while node is not None:
        try:
            one = step(scope, node, layers[0].layout)
        except KeepIt:
            if not found:
                raise
            break
        if one is None or not _same_shape(scope, one, layers[0]):
            break
        found.insert(0, one)
        maker = scope.producer.get(one.source)
        node = maker if maker is not None and scope.only_consumer(one.source) is found[0].node else None
    while found and found[0].idle:
        found.pop(0)
    return found


def _same_shape(scope: Scope, one: Step, layer: Layer) -> bool:
    """Whether `one` leaves the shape of its source alone; BatchNormalization must, a constant may add or widen."""
    if is_standard(one.node, "BatchNormalization"):
        if one.affine.channels != layer.inputs:
            reads = f"reads {layer.inputs} channels, the BatchNormalization before it has {one.affine.channels}"
            raise BadInput(f"{label(layer.node)}: {reads}; export the model again")
        return True
    if one.affine.channels == 1 and one.widest <= 1:
        return True
    shape = scope.shapes().get(one.source)
    return shape is not None and len(shape) == layer.layout.rank and shape[_channel(layer.layout)] == layer.inputs


def _channel(layout: Layout) -> int:
    return -1 - layout.after


def _safe(layer: Layer, affine: Affine) -> Affine:
    if affine.moves_zero and layer.node.op_type in ("Conv", "ConvTranspose") and pads(layer.node, layer.shape):
        raise KeepIt(
            f"the next operator, {layer.node.op_type} {label(layer.node)}, pads with zeros, which a fold would shift"
        )
    return affine
