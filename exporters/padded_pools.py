"""A Pad in front of a MaxPool, kept apart from it: ONNX Runtime's optimizer joins the two, and then pads by -inf.

    Pad by 0 -> MaxPool   of all -1  =  0 at the edge          joined: MaxPool with pads of -inf  =  -1 at the edge

So a YOLOv3-tiny, which pads by zero what a LeakyReLU left, answers otherwise than in PyTorch, in every ONNX Runtime
that has this fusion (seen in 1.31). Written otherwise the same pool is not joined: with auto_pad VALID, what it pads
itself in a second Pad, of -inf. Where joining changes nothing it may be: pads of -inf, and zeros beside what is never
below 0.
Source: ONNX operator specification, Pad and MaxPool. Test: tests/test_padded_pools.py.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from exporters.graph import Graph, attributes, is_standard, label, opset
from exporters.noops import parameter

NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softplus", "Abs", "Softmax")
OF_INPUTS = 11
"""The operator set from which on a Pad takes its pads as an input."""
AXES = 3
"""The input of a Pad that lists axes."""
LEAST = float(np.finfo(np.float32).min)


def keep_apart(model: onnx.ModelProto) -> int:
    """Write (edited) each MaxPool behind a Pad so that both stay what they are; returns how many there were."""
    pools = [node for node in model.graph.node if is_standard(node, "MaxPool")]
    graph = Graph(model, copied=False) if pools else None
    return sum(_kept_apart(graph, pool) for pool in pools if graph is not None)


def _kept_apart(graph: Graph, pool: onnx.NodeProto) -> bool:
    pad = graph.producer.get(pool.input[0])
    if pad is None or not is_standard(pad, "Pad") or not _changes(graph, pad):
        return False
    own = attributes(pool)
    if own.get("auto_pad", b"NOTSET") != b"NOTSET" or (len(pad.input) > AXES and pad.input[AXES]):
        return False  # not joined as it is
    if any(own.get("pads", ())):
        if own.get("ceil_mode", 0) or len(list(filter(None, pool.output))) > 1:
            return False  # its last window may hang over the end, or it counts the places of its maxima
        _pad_before(graph, pool, own["pads"])
    kept = [attribute for attribute in pool.attribute if attribute.name not in ("pads", "auto_pad")]
    del pool.attribute[:]
    pool.attribute.extend([*kept, helper.make_attribute("auto_pad", "VALID")])
    return True


def _pad_before(graph: Graph, pool: onnx.NodeProto, pads: list[int]) -> None:
    """Put what `pool` pads itself into a node in front of it."""
    half = len(pads) // 2
    wide = [0, 0, *pads[:half], 0, 0, *pads[half:]]
    name, made = f"{label(pool)}/Pad", graph.fresh(f"{pool.input[0]}.padded")
    if opset(graph.model) < OF_INPUTS:
        node = helper.make_node("Pad", [pool.input[0]], [made], name, pads=wide, value=LEAST)
    else:
        sizes = graph.add_constant(np.asarray(wide, np.int64), f"{made}.pads")
        fill = graph.add_constant(np.asarray(LEAST, np.float32), f"{made}.value")
        node = helper.make_node("Pad", [pool.input[0], sizes, fill], [made], name)
    node.metadata_props.extend(pool.metadata_props)
    graph.proto.node.insert(list(graph.proto.node).index(pool), node)
    pool.input[0] = made
    graph.reindex()


def _changes(graph: Graph, pad: onnx.NodeProto) -> bool:
    """Whether pads of -inf are others than those of `pad`."""
    if attributes(pad).get("mode", b"constant") != b"constant":
        return False
    fill = parameter(graph, pad, "value", 2)
    if fill is None and len(pad.input) > 2 and pad.input[2]:
        return True
    value = 0.0 if fill is None else float(fill.reshape(-1)[0])
    if value <= np.finfo(np.float32).min:
        return False
    source = graph.producer.get(pad.input[0])
    return not (value == 0 and source is not None and any(is_standard(source, op) for op in NEVER_NEGATIVE))
