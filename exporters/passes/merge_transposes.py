"""Two Transposes in a row are one, or none.

    y = transpose(transpose(x, p), q)   =   transpose(x, r)  with  r_i = p_{q_i};   r = (0, 1, 2, ...) is x itself

Exporters that turn NHWC into NCHW leave such pairs between every two layers. Exact: no number is touched.
Source: ONNX operator specification, Transpose. Test: tests/test_merge_transposes.py.
"""

from __future__ import annotations

import onnx
from onnx import helper

from exporters.base import Change, Kept, PassResult
from exporters.bypass import bypass
from exporters.graph import Graph, attributes, is_standard, label


def compose(first: list[int], second: list[int]) -> list[int]:
    """The permutation of both, one after the other.

    >>> compose([0, 2, 3, 1], [0, 3, 1, 2])
    [0, 1, 2, 3]
    """
    return [first[axis] for axis in second]


def run(model: onnx.ModelProto) -> PassResult:
    """Merge every pair where only the second reads the first; a pair that cancels goes whoever else reads."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for output in [node.output[0] for node in graph.proto.node if is_standard(node, "Transpose")]:
        node = graph.producer.get(output)
        if node is None:
            continue
        reason, what = _merge(graph, node)
        if reason:
            kept.append(Kept(label(node), reason))
        elif what:
            changes.append(Change(label(node), what))
    return PassResult(graph.model, tuple(changes), tuple(kept))


def _merge(graph: Graph, node: onnx.NodeProto) -> tuple[str, str]:
    """(why the pair stays, what was done); both empty where there is no pair."""
    first = graph.producer.get(node.input[0])
    if first is None or not is_standard(first, "Transpose"):
        return "", ""
    perms = [attributes(n).get("perm") for n in (first, node)]
    if perms.count(None) == 1:  # left out, it reverses all axes
        rank = len(next(perm for perm in perms if perm is not None))
        perms = [list(range(rank))[::-1] if perm is None else list(perm) for perm in perms]
    both = compose(*perms) if None not in perms else None  # type: ignore[arg-type]
    if both is None or both == sorted(both):  # twice reversed is not reversed
        return _cancel(graph, first, node)
    if graph.only_consumer(node.input[0]) is not node:
        return f"the output of Transpose {label(first)} {graph.why_not_only(node.input[0])}", ""
    _write(graph, first, node, both)
    return "", f"merged with Transpose {label(first)}"


def _cancel(graph: Graph, first: onnx.NodeProto, node: onnx.NodeProto) -> tuple[str, str]:
    name = label(first)
    reason = bypass(graph, node, first.input[0])
    if not reason and not (graph.consumers.get(first.output[0]) or _seen(graph, first.output[0])):
        graph.replace([graph.producer[first.output[0]]], [])
    return reason, "" if reason else f"cancels with Transpose {name}"


def _seen(graph: Graph, name: str) -> bool:
    return name in graph.outputs or name in graph.captured


def _write(graph: Graph, first: onnx.NodeProto, node: onnx.NodeProto, perm: list[int]) -> None:
    node.input[0] = first.input[0]
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("perm", perm))
    graph.forget(first.output[0])
    graph.replace([first], [])
