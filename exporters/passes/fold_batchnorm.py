"""Fold BatchNormalization, and every other per-channel affine, into the linear operator before or after it.

    x -> Conv -> BatchNormalization -> Relu        x -> Conv' -> Relu             Conv, ConvTranspose, Gemm, MatMul
    x -> BatchNormalization -> Conv, unpadded      x -> Conv'                     also Mul, Add, Sub, Div by constants

The mathematics, its bound and the surgery are in `exporters/fold`; here is the order: into the operator before wherever
that is possible, else into all operators after, until nothing moves. What stays is listed with its reason: every
BatchNormalization, and the constants next to a linear operator. Test: tests/test_fold_batchnorm.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from exporters.base import Change, Kept, PassResult
from exporters.fold.behind import fold_behind, producer_of
from exporters.fold.constants import is_constant
from exporters.fold.front import fold_front, linear_readers
from exporters.fold.recognize import KeepIt, NoAffine, data_input
from exporters.fold.scope import Scope
from exporters.graph import copy_model, is_standard, label, nodes_within


def run(model: onnx.ModelProto) -> PassResult:
    """Fold every BatchNormalization and constant that can be; the others are in `kept` with the reason.

    Raises `BadInput` naming the node whose statistics are no numbers or have a variance + epsilon that is not positive.
    """
    result = copy_model(model)
    changes, kept = _fold_graph(Scope(result, result.graph, original=model))
    return PassResult(result, tuple(changes), (*kept, *_kept_in_functions(model)))


def _fold_graph(scope: Scope) -> tuple[list[Change], list[Kept]]:
    """The bodies first: what they do not read any more may be needed less outside."""
    changes: list[Change] = []
    kept: list[Kept] = []
    before = scope.captured
    for body in scope.bodies():
        inner_changes, inner_kept = _fold_graph(body)
        changes += inner_changes
        kept += inner_kept
    if changes:
        scope.reindex()
        scope.drop_unread(name for name in sorted(before - scope.captured) if is_constant(scope, name))
    while True:
        made, reasons = _sweep(scope)
        changes += made
        if not made:
            break
    scope.finish()
    return changes, [*kept, *reasons]


def _sweep(scope: Scope) -> tuple[list[Change], list[Kept]]:
    """One go over all affines that are left: (what was folded, what was not)."""
    changes: list[Change] = []
    kept: list[Kept] = []
    for node in scope.nodes():
        if not scope.holds(node) or not _is_candidate(scope, node):
            continue
        found = _attempt(scope, node)
        if isinstance(found, Kept):
            kept += [found] * bool(found.reason)
        else:
            changes += found
    return changes, kept


def _is_candidate(scope: Scope, node: onnx.NodeProto) -> bool:
    """A BatchNormalization, or a constant next to a linear operator."""
    if is_standard(node, "BatchNormalization"):
        return True
    return data_input(scope, node) is not None and (
        producer_of(scope, node) is not None or bool(linear_readers(scope, node.output[0]))
    )


def _attempt(scope: Scope, node: onnx.NodeProto) -> list[Change] | Kept:
    """What was folded, or why nothing was; no reason when there was nothing to expect."""
    reasons: list[str] = []
    expected = not is_standard(node, "Identity")
    for fold in (fold_behind, fold_front):
        try:
            return fold(scope, node)
        except NoAffine:
            expected = is_standard(node, "BatchNormalization")
        except KeepIt as reason:
            reasons.append(str(reason))
    return Kept(label(node), "; ".join(dict.fromkeys(reasons)) if expected else "")


def _kept_in_functions(model: onnx.ModelProto) -> Iterator[Kept]:
    nodes = [node for function in model.functions for node in nodes_within(function.node)]
    for node in nodes:
        if is_standard(node, "BatchNormalization"):
            yield Kept(label(node), "it is inside a function of the model")
