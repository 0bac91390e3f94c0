"""Of a batch each image has the answer that it has alone; outputs of several are never the answer for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters.pack import pack
from runtimes.base import BadInput, Tensors
from runtimes.bundle import Bundle, open_bundle
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.shown import Shown, of_array
from runtimes.proof.answers import AnyPrediction, MaskPrediction, NumbersPrediction
from runtimes.proof.prediction import answer, answers
from runtimes.session import open_session
from small_nets import model

READY = Preprocess((8, 8), 3)
RANKS = np.random.default_rng(1).standard_normal((192, 5)).astype(np.float32)
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), np.uint8)

SCORES = """<ir_version: 9, opset_import: ["" : 20]> g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
    a = Flatten (x)
    y = MatMul (a, w)
}"""
TWO_OUTPUTS = """<ir_version: 9, opset_import: ["" : 20]> g (float[N, 3, 8, 8] x) => (float[N, 5] y, float[M] z) {
    a = Flatten (x)
    y = MatMul (a, w)
    t = Transpose (y)
    pairs = MatMul (y, t)
    flat = Constant <value = int64[1] {-1}> ()
    z = Reshape (pairs, flat)
}"""
MAPS = '<ir_version: 9, opset_import: ["" : 20]> g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Identity (x) }'
BOXES = """<ir_version: 9, opset_import: ["" : 20]>
g (float[N, 3, 8, 8] x) => (float[M, 4] boxes, float[M] scores, int64[M] labels, int64[M] image) {
    red = Constant <value = int64[1] {0}> ()
    ends = Constant <value = int64[2] {2, 3}> ()
    means = ReduceMean <keepdims = 0> (x, ends)
    half = Constant <value = float {0.5}> ()
    over = Greater (means, half)
    at = NonZero (over)
    rows = Transpose (at)
    scores = GatherND (means, rows)
    axis = Constant <value = int64 {1}> ()
    image = Gather <axis = 0> (at, first)
    labels = Gather <axis = 0> (at, axis)
    column = Cast <to = 1> (labels)
    right = Add (column, two)
    one = Constant <value = int64[1] {1}> ()
    x1 = Unsqueeze (column, one)
    x2 = Unsqueeze (right, one)
    boxes = Concat <axis = 1> (x1, x1, x2, x2)
}"""
"""A box for each channel that is bright, called by it: none, one or several an image."""


def made(path: Path, task: str, text: str = SCORES, **weights: Any) -> Bundle:
    weights = weights or ({"w": RANKS} if "w)" in text else {})
    net, images = model(text, **weights), np.ones((1, 3, 8, 8), np.float32)
    session = open_session(net)
    outputs = [value[None] if text == BOXES else value for value in session({"x": images}).values()]
    first = session.outputs[0]
    about = {
        "name": "made", "task": task, "labels": [], "preprocess": READY.to_dict(), "created_by": "edgecnn 0",
        "chosen": "float", "input": {"name": "x", "dtype": "float32", "shape": ["N", 3, 8, 8]},
        "output": {"name": first.name, "dtype": first.dtype, "shape": list(first.shape)},
    }  # fmt: skip
    pack(path / "net.edge", net, about, [images], outputs, 0.0)
    return open_bundle(path / "net.edge")


def boxes_bundle(path: Path) -> Bundle:
    return made(path, "detection", BOXES, first=np.int64(0), two=np.float32(2))


BUNDLES: dict[str, Callable[[Path], Bundle]] = {
    "classes": lambda path: made(path, "classification"),
    "labels": lambda path: made(path, "multi-label"),
    "numbers": lambda path: made(path, "regression"),
    "masks": lambda path: made(path, "segmentation", MAPS),
    "boxes": boxes_bundle,
}


def fed(bundle: Bundle, frames: np.ndarray) -> tuple[list[Shown], Tensors]:
    images = of_array("frames", frames, READY)
    return images, bundle.session(threads=1)({"x": np.stack([image.ready() for image in images])})


def bright(frames: np.ndarray) -> np.ndarray:
    """Frames of which each has other channels that are bright, the second none."""
    found = frames // 8
    found[0, :, :, 1] = found[2, :, :, 0] = found[3] = 220
    return np.asarray(found)


def same(a: AnyPrediction, b: AnyPrediction) -> bool:
    if isinstance(a, MaskPrediction) and isinstance(b, MaskPrediction):
        return bool(np.array_equal(a.mask, b.mask)) and a.regions == b.regions
    if isinstance(a, NumbersPrediction) and isinstance(b, NumbersPrediction):
        return a == b and all(np.array_equal(a.arrays[name], b.arrays[name]) for name in a.arrays)
    return a == b


@pytest.mark.parametrize("kind", BUNDLES)
def test_a_batch_is_answered_as_its_images_alone(kind: str, tmp_path: Path) -> None:
    """The oracle is `answer` for what the network says of each image by itself; sums may differ in their last bit."""
    bundle, frames = BUNDLES[kind](tmp_path), bright(FRAMES)
    images, outputs = fed(bundle, frames)
    found = answers(bundle, images, outputs, 3, 0.5)
    alone = [answer(bundle, image, fed(bundle, frames[[i]])[1], 3, 0.5) for i, image in enumerate(images)]
    assert [one.input for one in found] == [f"frames[{i}]" for i in range(4)]
    assert [type(one) for one in found] == [type(one) for one in alone]
    if kind in ("masks", "boxes"):
        assert all(map(same, found, alone))
    assert [one.words for one in found] == [one.words for one in alone]
    assert len({one.words for one in found}) > 2
    assert same(answers(bundle, images[:1], fed(bundle, frames[:1])[1], 3, 0.5)[0], alone[0])


def test_boxes_go_to_the_images_that_they_are_in(tmp_path: Path) -> None:
    bundle = boxes_bundle(tmp_path)
    images, outputs = fed(bundle, bright(FRAMES))
    found = answers(bundle, images, outputs, 5, 0.0)
    assert [sorted(box.label for box in one.boxes) for one in found] == [["1"], [], ["0"], ["0", "1", "2"]]  # type: ignore[union-attr]
    with pytest.raises(BadInput, match=r"net\.edge: has boxes in image 2 of 2; feed the images one by one"):
        answers(bundle, images[:2], outputs, 5, 0.0)


@pytest.mark.parametrize("kind", BUNDLES)
def test_the_outputs_of_several_images_are_no_answer_for_one(kind: str, tmp_path: Path) -> None:
    bundle = BUNDLES[kind](tmp_path)
    images, outputs = fed(bundle, bright(FRAMES))
    many = "several images" if kind == "boxes" else "4 images"
    with pytest.raises(BadInput, match=rf"^frames\[0\]: the outputs are of {many}; `answers` takes those of a batch$"):
        answer(bundle, images[0], outputs, 5, 0.3)


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers", "masks"])
def test_as_many_rows_as_images_are_needed(kind: str, tmp_path: Path) -> None:
    bundle = BUNDLES[kind](tmp_path)
    images, outputs = fed(bundle, FRAMES)
    for few in (images[:3], images[:1], []):
        with pytest.raises(
            BadInput, match=r"output y is \[4, .*\] for . images?, which cannot be told apart; feed the im"
        ):
            answers(bundle, few, outputs, 5, 0.3)


def test_numbers_that_are_no_rows_of_images_are_told_and_still_answered_alone(tmp_path: Path) -> None:
    """`z` has a number for each pair of images."""
    bundle = made(tmp_path, "other", TWO_OUTPUTS)
    images, outputs = fed(bundle, FRAMES)
    with pytest.raises(BadInput, match=r"output z is \[16\] for 4 images, which cannot be told apart"):
        answers(bundle, images, outputs, 5, 0.3)
    assert isinstance(answer(bundle, images[0], fed(bundle, FRAMES[:1])[1], 5, 0.3), NumbersPrediction)


def test_a_network_of_one_score_is_answered_row_by_row(tmp_path: Path) -> None:
    bundle = made(tmp_path, "classification", SCORES.replace("N, 5", "N, 1"), w=RANKS[:, :1])
    images, outputs = fed(bundle, FRAMES)
    outputs = {"y": outputs["y"] - outputs["y"].mean()}
    flat = {"y": outputs["y"][:, 0]}
    expected = [str(int(score > 0)) for score in flat["y"]]
    assert set(expected) == {"0", "1"}
    for each in (outputs, flat):
        assert [one.label for one in answers(bundle, images, each, 1, 0.3)] == expected  # type: ignore[union-attr]
        with pytest.raises(BadInput, match="of 4 images"):
            answer(bundle, images[0], each, 1, 0.3)
