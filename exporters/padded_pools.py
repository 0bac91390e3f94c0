"""A Pad in front of a MaxPool, kept apart from it: ONNX Runtime's optimizer joins the two, and then pads by -inf.

    Pad by 0 -> MaxPool   of all -1  =  0 at the edge          joined: MaxPool with pads of -inf  =  -1 at the edge

So a YOLOv3-tiny, which pads by zero what a LeakyReLU left, answers otherwise than in PyTorch, in every ONNX Runtime
that has this fusion (seen in 1.31). Written otherwise the same pool is not joined: with auto_pad VALID where it has no
pads of its own, else with the Pad's axes listed (operator set 18). Where joining changes nothing it may be: pads of
-inf, and zeros beside what is never below 0.
Source: ONNX operator specification, Pad and MaxPool. Test: tests/test_padded_pools.py.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from exporters.graph import Graph, attributes, is_standard, label, opset
from exporters.noops import parameter

NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softplus", "Abs", "Softmax")
WITH_AXES = 18


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
    if own.get("auto_pad", b"NOTSET") != b"NOTSET":
        return False
    if not any(own.get("pads", ())):
        kept = [attribute for attribute in pool.attribute if attribute.name not in ("pads", "auto_pad")]
        del pool.attribute[:]
        pool.attribute.extend([*kept, helper.make_attribute("auto_pad", "VALID")])
        return True
    pads = parameter(graph, pad, "pads", 1)
    if opset(graph.model) < WITH_AXES or pads is None or (len(pad.input) > 3 and pad.input[3]):
        return False
    axes = graph.add_constant(np.arange(pads.size // 2), f"{label(pad)}/axes")
    pad.input.extend([""] * (3 - len(pad.input)))
    del pad.input[3:]
    pad.input.append(axes)
    return True


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
