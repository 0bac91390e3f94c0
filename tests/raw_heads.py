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


def brute_force(raw: Array, head: str, score: float, iou: float, most: int) -> list[tuple[Array, Array, Array]]:
    """(boxes, scores, labels) of each image of a raw head (N, channels, places): greedy suppression, class by class."""
    found = []
    for image in raw.astype(np.float64):
        cx, cy, w, h = image[:4]
        corners = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
        scores = image[4:] if head == "yolov8" else image[5:] * image[4]
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


def _iou(a: Array, b: Array) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / union) if union > 0 else 0.0
