"""Small networks that answer with a raw detector head, as files from elsewhere have it, for tests of decoding."""

from __future__ import annotations

import numpy as np
import onnx

from runtimes.base import Array

CLASSES, SIDE = 3, 64
PLACES = 8 * 8 + 4 * 4 + 2 * 2
"""Of grids of 8, 16 and 32 pixels."""

GRAPH = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
g (float[{batch}, 3, 64, 64] {fed}) => (float[{batch}, {sizes}] {raw}) {{
    seen = Conv <kernel_shape = [8, 8], strides = [8, 8]> ({fed}, w)
    flat = Reshape (seen, shape)
    s = Sigmoid (flat)
    many = Mul (s, gain)
    {raw} = {last} (many, start)
}}
"""
"""A cell of 8x8 pixels says everything of one place: boxes around the cell, scores of its mean colours."""


def network(
    head: str = "yolov8", opset: int = 17, batch: str | int = "N", fed: str = "images", raw: str = "output0",
    turned: bool = False, last: str = "Add", seed: int = 0,
) -> onnx.ModelProto:  # fmt: skip
    """A raw head of 64 places; `turned`: the two axes the other way round than usual."""
    first = 4 if head == "yolov8" else 5
    count, places = first + CLASSES, (SIDE // 8) ** 2
    behind = (head == "yolov8") == turned
    sizes = f"{places}, {count}" if behind else f"{count}, {places}"
    text = GRAPH.format(ir=8, opset=opset, batch=batch, fed=fed, raw=raw, sizes=sizes, last=last)
    if behind:
        text = text.replace(f"{raw} = {last} (many, start)", f"told = {last} (many, start)\n    "
                            f"{raw} = Transpose <perm = [0, 2, 1]> (told)")  # fmt: skip
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    gain, start = np.ones((1, count, 1)), np.zeros((1, count, places))
    gain[0, :4, 0] = 12, 12, 30, 30
    ys, xs = np.divmod(np.arange(places), SIDE // 8)
    start[0, :4] = xs * 8 - 2, ys * 8 - 2, np.full(places, 6), np.full(places, 6)
    weights = rng.normal(0, 0.8, (count, 3, 8, 8))
    weights[4:first] += 0.1  # there is something almost everywhere
    constants = {
        "w": weights, "shape": np.array([0, count, places]), "gain": gain, "start": start,
    }  # fmt: skip
    for name, value in constants.items():
        kind = np.int64 if name == "shape" else np.float32
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(kind), name))
    return model


CHOSEN = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, 64, 64] images) => (float[N, 64, 6] output0) {
    seen = Conv <kernel_shape = [8, 8], strides = [8, 8]> (images, w)
    flat = Reshape (seen, shape)
    rows = Transpose <perm = [0, 2, 1]> (flat)
    s = Sigmoid (rows)
    six = Constant <value_ints = [2, 2, 1, 1]> ()
    near, sides, score, kind = Split <axis = 2> (s, six)
    scale = Constant <value_floats = [70.0, 70.0]> ()
    first = Mul (near, scale)
    wide = Mul (sides, scale)
    second = Add (first, wide)
    classes = Constant <value_float = 3.0> ()
    many = Mul (kind, classes)
    whole = Floor (many)
    output0 = Concat <axis = 2> (first, second, score, whole)
}
"""
"""Boxes with score and class, as a network that chooses them itself answers; some over the edge, none in any order."""


def of_chosen(seed: int = 0) -> onnx.ModelProto:
    model = onnx.parser.parse_model(CHOSEN)
    weights = np.random.default_rng(seed).normal(0, 0.8, (6, 3, 8, 8)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 6, 64]), "shape"))
    return model


OPEN = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, H, W] images) => (float[N, 7, P] output0) {
    seen = Conv <kernel_shape = [8, 8], strides = [8, 8]> (images, w)
    shape = Constant <value_ints = [0, 7, -1]> ()
    flat = Reshape (seen, shape)
    s = Sigmoid (flat)
    output0 = Mul (s, gain)
}
"""
"""Any height and width: a place for each cell of 8x8 pixels, boxes somewhere in the picture or over its edge."""


def of_open_size(seed: int = 0) -> onnx.ModelProto:
    model = onnx.parser.parse_model(OPEN)
    rng, gain = np.random.default_rng(seed), np.ones((1, 7, 1))
    gain[0, :4, 0] = 120, 120, 60, 60
    for name, value in (("w", rng.normal(0, 0.8, (7, 3, 8, 8))), ("gain", gain)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    return model


def in_two(model: onnx.ModelProto, boxes_last: bool, scores_last: bool, scores_first: bool = False) -> onnx.ModelProto:
    """The raw head of `model`, (N, 7, places), as two outputs."""
    graph, helper = model.graph, onnx.helper
    raw = graph.output[0].name
    sizes = [d.dim_value or d.dim_param for d in graph.output[0].type.tensor_type.shape.dim]
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([4, CLASSES]), "split"))
    graph.node.append(helper.make_node("Split", [raw, "split"], ["part_b", "part_s"], axis=1))
    outputs = []
    for part, name, count, last in (("part_b", "where", 4, boxes_last), ("part_s", "what", CLASSES, scores_last)):
        perm = [0, 2, 1] if last else [0, 1, 2]
        graph.node.append(helper.make_node("Transpose", [part], [name], perm=perm))
        shape = [sizes[0], count, sizes[2]]
        outputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [shape[i] for i in perm]))
    del graph.output[:]
    graph.output.extend(outputs[::-1] if scores_first else outputs)
    return model


def brute_force(
    raw: Array, head: str, score: float, iou: float, most: int, best_class: bool = False
) -> list[tuple[Array, Array, Array]]:
    """(boxes, scores, labels) of each image of a raw head (N, channels, places): greedy suppression, class by class."""
    found = []
    for image in raw.astype(np.float64):
        cx, cy, w, h = image[:4]
        corners = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
        scores = image[4:] if head == "yolov8" else image[5:] * image[4]
        if best_class:
            scores = np.where(scores == scores.max(0), scores, 0)
        kept = []
        for label, row in enumerate(scores):
            stays: list[int] = []
            for place in sorted(np.flatnonzero(row > score), key=lambda p: -row[p]):
                if all(_iou(corners[place], corners[other]) <= iou for other in stays):
                    stays.append(int(place))
            kept += [(row[place], label, place) for place in stays]
        kept = sorted(kept, key=lambda entry: -entry[0])[:most]
        found.append((
            np.array([corners[place] for _, _, place in kept]).reshape(-1, 4),
            np.array([value for value, _, _ in kept]),
            np.array([label for _, label, _ in kept], np.int64),
        ))  # fmt: skip
    return found


def chosen_by_hand(raw: Array, score: float, most: int) -> list[tuple[Array, Array, Array]]:
    """(boxes, scores, labels) of each image of (N, boxes, 6): what scores more, best first, equals as they came."""
    found = []
    for rows in raw:
        order = sorted((i for i in range(len(rows)) if rows[i, 4] > score), key=lambda i: -rows[i, 4])[:most]
        found.append((rows[order, :4], rows[order, 4], rows[order, 5].astype(np.int64)))
    return found


def _iou(a: Array, b: Array) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / union) if union > 0 else 0.0
