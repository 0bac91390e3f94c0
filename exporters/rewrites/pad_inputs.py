"""An image of 3 channels becomes one of 4, the fourth all zero: integer convolutions read channels in fours.

    Conv(x, W)  =  Conv(Pad(x), [W 0])          W (O, 3, kh, kw) -> (O, 4, kh, kw)

Acts on ungrouped convolutions that read an input of the model whose channels are no multiple of four. Exact: what is
added is a product of zeros. `fold_columns` and `space_to_depth` do better where they act; this takes every size, odd
ones and open ones too. Test: tests/test_pad_inputs.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.base import Change, Kept, PassResult
from exporters.graph import Graph, label
from exporters.searching.blocks import Chain, nodes_of, read_conv, reshaped

MULTIPLE = 4


def run(model: onnx.ModelProto) -> PassResult:
    """Pad the input channels of every first convolution; those that cannot be are in `kept` with the reason."""
    graph = Graph(model)
    changes: list[Change] = []
    kept: list[Kept] = []
    for name in nodes_of(graph, "Conv"):
        node = graph.producer[name]
        if node.input[0] not in graph.inputs:
            continue
        conv = read_conv(graph, node)
        if isinstance(conv, str) or conv.group != 1:
            kept.append(Kept(label(node), conv if isinstance(conv, str) else f"it has {conv.group} groups"))
        elif extra := -conv.inputs % MULTIPLE:
            chain = Chain(graph, node)
            pads = chain.constant(np.asarray([0, 0, 0, 0, 0, extra, 0, 0], np.int64), "pads")
            weight = np.pad(conv.weight, [(0, 0), (0, extra), (0, 0), (0, 0)])
            x = chain.node("Pad", [node.input[0], pads])
            chain.conv(x, reshaped(conv, weight, conv.bias), node.output[0])
            chain.write([node])
            changes.append(Change(label(node), f"{conv.inputs} input channels are {conv.inputs + extra}"))
    return PassResult(graph.model, tuple(changes), tuple(kept))
