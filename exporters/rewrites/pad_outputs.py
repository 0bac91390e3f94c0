"""A convolution whose outputs do not come in fours, or are fewer than 16, makes zero channels that a Slice drops.

    Conv(x, W, b)  =  Slice(Conv(x, [W; 0], [b; 0]))      W (O, C, kh, kw) -> (T, C, kh, kw), T = max(16, 4 ceil(O / 4))

The fast integer kernel of ONNX Runtime takes T % 4 == 0 and T >= 16 only; a detector's head of 4 x 25 outputs does, one
of 3 x 25 does not. Exact. An activation behind is done before the Slice. Acts on ungrouped convolutions of any kernel
with at least 8 pixels of output per image; `fold_pixels` does better where it acts. Test: tests/test_pad_outputs.py.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters import padding
from exporters.base import Change, PassResult
from exporters.graph import Graph, label
from exporters.searching.blocks import Chain, Conv, activation_behind, convolutions, reshaped
from exporters.sizes import fixed_sizes

FEWEST, MULTIPLE = 16, 4
FEWEST_PIXELS = 8


def padded(outputs: int) -> int:
    """Output channels that the kernel takes."""
    return max(FEWEST, -(-outputs // MULTIPLE) * MULTIPLE)


def run(model: onnx.ModelProto) -> PassResult:
    """Pad the outputs of every ungrouped convolution that has too few or an odd number of them."""
    graph = Graph(model)
    sizes = fixed_sizes(model)
    changes: list[Change] = []
    for node, conv in convolutions(graph):
        if isinstance(conv, str) or conv.group != 1 or padded(conv.outputs) == conv.outputs:
            continue
        image = sizes.get(node.output[0], ())[2:]
        if None in image or np.prod([d or 0 for d in image]) >= FEWEST_PIXELS:
            _write(graph, node, conv)
            changes.append(Change(label(node), f"{conv.outputs} outputs are {padded(conv.outputs)}"))
    return PassResult(graph.model, tuple(changes))


def _write(graph: Graph, node: onnx.NodeProto, conv: Conv) -> None:
    extra = padded(conv.outputs) - conv.outputs
    weight = np.pad(conv.weight, [(0, extra), (0, 0), (0, 0), (0, 0)])
    bias = None if conv.bias is None else np.pad(conv.bias, (0, extra))
    act = activation_behind(graph, node.output[0])
    chain = Chain(graph, node)
    made = chain.conv(node.input[0], reshaped(conv, weight, bias))
    x = chain.activation(made, act)
    padding.note(graph.model, dict.fromkeys((made, x), np.arange(conv.outputs)))
    bounds = [chain.constant(np.asarray([v], np.int64), "channels") for v in (0, conv.outputs, 1)]
    chain.node("Slice", [x, *bounds], (act or node).output[0])
    chain.write([node] if act is None else [node, act])
