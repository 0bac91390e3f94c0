"""Chains of affines that the linear operator before them absorbs.

    x -> Conv -> Mul -> Add -> BatchNormalization -> y          x -> Conv' -> y

As many as can be, from the operator on, are taken together: one rounding for all. Test: tests/test_fold_affines.py.
"""

from __future__ import annotations

import onnx

from exporters.base import Change
from exporters.fold.affine_chain import compose
from exporters.fold.linear import Layer, fold, is_linear, layer_of, write
from exporters.fold.recognize import KeepIt, NoAffine, Step, data_input, step
from exporters.fold.scope import Scope
from exporters.graph import is_standard, label
from runtimes.base import BadInput


def producer_of(scope: Scope, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The linear node whose result `node` reads, directly or as a MatMul's own bias; None when there is none."""
    source = data_input(scope, node)
    maker = scope.producer.get(source) if source else None
    if maker is not None and is_standard(maker, "Add"):
        first = scope.producer.get(data_input(scope, maker) or "")
        return first if first is not None and is_standard(first, "MatMul") else None
    return maker if maker is not None and is_linear(maker) else None


def fold_behind(scope: Scope, node: onnx.NodeProto) -> list[Change]:
    """Fold `node` and what follows it into the operator before it. Raises `KeepIt`."""
    linear = _linear_before(scope, node)
    layer = layer_of(scope, linear)
    if layer.adder is node:
        return []  # a MatMul's bias is where it belongs
    source = data_input(scope, node)
    if source != layer.output:
        raise KeepIt(f"it follows Add {source}, which adds more than a number for each channel")
    chain = _chain(scope, layer, node)
    reason: KeepIt = NoAffine("it computes something else than a factor and a summand for each channel")
    for length in range(len(chain), 0, -1):
        try:
            folded = fold(scope, layer, behind=compose(s.affine for s in chain[:length]))
        except KeepIt as error:
            reason = error
            continue
        taken = chain[:length]
        last, names = taken[-1].node.output[0], [label(s.node) for s in taken]
        changes = [Change(name, f"folded into {linear.op_type} {label(linear)}", folded.bound) for name in names]
        scope.remove([s.node for s in taken])
        scope.set_output(layer.adder or linear, last)
        write(scope, folded, taken[-1].node, names)
        scope.drop_unread([name for s in taken for name in s.parameters])
        return changes
    raise reason


def _linear_before(scope: Scope, node: onnx.NodeProto) -> onnx.NodeProto:
    name = data_input(scope, node)
    if name is None:
        raise KeepIt("it works on a constant")
    maker = scope.producer.get(name)
    if maker is None:
        outside = scope.home(name) is not scope
        raise KeepIt("it reads what is made outside its body" if outside else "it reads the model's input directly")
    linear = producer_of(scope, node)
    if linear is None:
        raise KeepIt(f"it follows {maker.op_type} {label(maker)}, not a Conv, ConvTranspose, Gemm or MatMul")
    for made in dict.fromkeys((linear.output[0], name)):
        if scope.only_consumer(made) is None:
            raise KeepIt(f"the output of {linear.op_type} {label(linear)} {scope.why_not_only(made)}")
    return linear


def _chain(scope: Scope, layer: Layer, node: onnx.NodeProto | None) -> list[Step]:
    """The affines from `node` on, each the only reader of the one before; without Identities at the end."""
    found: list[Step] = []
    while node is not None:
        try:
            one = step(scope, node, layer.layout)
        except KeepIt:
            if not found:
                raise
            break
        if one is None or (one.affine.channels != 1 and one.affine.channels != layer.outputs):
            _check_channels(layer, node, one)
            break
        found.append(one)
        node = scope.only_consumer(node.output[0])
    while found and found[-1].idle:
        found.pop()
    return found


def _check_channels(layer: Layer, node: onnx.NodeProto, one: Step | None) -> None:
    if one is not None and is_standard(node, "BatchNormalization"):
        made = f"makes {layer.outputs} channels, its BatchNormalization has {one.affine.channels}"
        raise BadInput(f"{label(layer.node)}: {made}; export the model again")
