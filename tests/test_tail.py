"""What stays float in a detector: everything between its last layers and its boxes, and nothing in front of them."""

from __future__ import annotations

import numpy as np

from exactly import exactly
from exporters.graph import Graph
from exporters.quantization.kernels import COMPUTE
from exporters.quantization.placement import plan
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.quantization.tail import REASON, tail_of
from graphs import parse
from runtimes.session import open_session

ONE_STAGE = """g (float[1, 3, 8, 8] x, int64[1] most, float[1] iou, float[1] low)
  => (int64[M, 3] picked, float[1, 16, 4] boxes, float[1, 3, 16] scores) {
    body = Conv <strides: ints = [2, 2], pads: ints = [1, 1, 1, 1]> (x, w)
    twice = Add (body, body)
    answers = Conv (twice, v)
    shape = Constant <value: tensor = int64[3] {1, 7, 16}> ()
    flat = Reshape (answers, shape)
    parts = Constant <value: tensor = int64[2] {4, 3}> ()
    code, logits = Split <axis: int = 1> (flat, parts)
    hundred = Constant <value: tensor = float[1] {100.0}> ()
    far = Mul (code, hundred)
    boxes = Transpose <perm: ints = [0, 2, 1]> (far)
    scores = Sigmoid (logits)
    picked = NonMaxSuppression (boxes, scores, most, iou, low)
}"""
ONE_WEIGHTS = {"w": (8, 3, 3, 3), "v": (7, 8, 1, 1)}

TWO_STAGES = """g (float[1, 3, 8, 8] x, int64[1] most, float[1] iou, float[1] low) => (float[M, 2, 2, 2] y) {
    features = Conv <pads: ints = [1, 1, 1, 1]> (x, w)
    rpn = Conv (features, v)
    shape = Constant <value: tensor = int64[3] {1, 5, 64}> ()
    flat = Reshape (rpn, shape)
    parts = Constant <value: tensor = int64[2] {4, 1}> ()
    code, score = Split <axis: int = 1> (flat, parts)
    boxes = Transpose <perm: ints = [0, 2, 1]> (code)
    picked = NonMaxSuppression (boxes, score, most, iou, low)
    two = Constant <value: tensor = int64 {2}> ()
    index = Gather <axis: int = 1> (picked, two)
    zero = Constant <value: tensor = int64[1] {0}> ()
    single = Squeeze (boxes, zero)
    rois = Gather <axis: int = 0> (single, index)
    image = Mul (index, zero)
    pooled = RoiAlign <output_height: int = 2, output_width: int = 2, sampling_ratio: int = 1> (features, rois, image)
    y = Conv (pooled, u)
}"""


def test_a_graph_that_suppresses_nothing_has_no_tail() -> None:
    text = "g (float[1, 3, 8, 8] x) => (float[1, 4, 6, 6] y) { a = Conv (x, w) \n y = Add (a, a) }"
    assert tail_of(Graph(parse(text, w=(4, 3, 3, 3))), COMPUTE) == frozenset()


def test_the_tail_begins_behind_the_last_layer() -> None:
    tail = tail_of(Graph(parse(ONE_STAGE, **ONE_WEIGHTS)), COMPUTE)
    assert {"flat", "code", "far", "boxes", "scores", "picked"} <= tail
    assert not tail & {"body", "twice", "answers"}


def test_proposals_are_a_tail_in_the_middle() -> None:
    """The features go through RoiAlign into the next layer; the boxes that say where do not."""
    tail = tail_of(Graph(parse(TWO_STAGES, w=(6, 3, 3, 3), v=(5, 6, 1, 1), u=(2, 6, 1, 1))), COMPUTE)
    assert {"flat", "code", "boxes", "picked", "rois", "single"} <= tail
    assert not tail & {"features", "rpn", "pooled", "y"}


def test_the_plan_leaves_the_tail_float_and_says_why() -> None:
    found = plan(parse(ONE_STAGE, **ONE_WEIGHTS))
    assert found.int8 == {"body", "twice", "answers"}
    reasons = dict(found.float_nodes)
    assert {reasons[name] for name in ("flat", "code", "far", "boxes", "scores")} == {REASON}
    assert not {"far", "boxes", "scores"} & set(found.grids)


def test_an_int8_detector_keeps_its_scores() -> None:
    """Boxes up to hundreds beside scores below one: with one grid for both every score would be 0."""
    model = parse(ONE_STAGE, **ONE_WEIGHTS)
    rng = np.random.default_rng(0)
    limits = {"most": np.array([9]), "iou": np.float32([0.9]), "low": np.float32([0.0])}
    feeds = [{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32), **limits} for _ in range(8)]
    int8 = open_session(exactly(quantize_model(model, feeds, QuantRecipe()).model))
    for feed in feeds:
        expected, found = open_session(model)(feed), int8(feed)
        assert np.abs(expected["scores"] - found["scores"]).max() < 0.2  # a step of the logits is 0.7, the slope 1/4
        assert len(found["picked"])
