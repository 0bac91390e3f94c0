"""Mixed ranges on nets made to fail: scores beside boxes survive, at the end of a network and inside it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgecnn.choosing.contest import Contest, compete
from edgecnn.choosing.trial import Trial
from edgecnn.data.material import Material
from edgecnn.data.samples import Samples
from exactly import exactly
from exporters.quantization.mixed import mixed
from exporters.quantization.quantize import QuantRecipe
from exporters.quantization.work import Work, start
from runtimes.session import open_session
from small_nets import model

END = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N,8,8,8] x) => (float[N,6,64] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    r = Relu (a)
    boxes = Conv (r, wb)
    scores = Conv (r, ws)
    share = Sigmoid (scores)
    both = Concat <axis = 1> (boxes, share)
    y = Reshape (both, shape)
}
"""
INSIDE = END.replace("float[N,6,64] y", "float[N,3,8,8] y").replace(
    "y = Reshape (both, shape)", "moved = MaxPool <kernel_shape = [1, 1]> (both)\n y = Conv (moved, last)"
)
CHANNELS = END.replace("y) {", "y) {", 1).replace(
    "both = Concat <axis = 1> (boxes, share)", "near = Concat <axis = 1> (share, share)\n both = Mul (near, far)"
).replace("boxes = Conv (r, wb)", "")  # fmt: skip


def net(text: str, wide: float) -> onnx.ModelProto:
    """`wide`: how much larger boxes are than scores, which are shares."""
    draw = np.random.default_rng(0).normal
    last = draw(size=(3, 6, 1, 1))
    last[:, :4] /= wide  # all six channels matter as much behind the Concat
    values = {"w": draw(size=(8, 8, 3, 3)) / 8, "wb": wide * draw(size=(4, 8, 1, 1)), "ws": draw(size=(2, 8, 1, 1)) / 2,
              "last": last, "far": np.array([wide, 1, wide, 1])[:, None, None]}  # fmt: skip
    used = {k: v.astype(np.float32) for k, v in values.items() if f"{k})" in text}
    return model(text.replace("N,6,64", "N,4,64") if "far" in used else text, **used,
                 **({"shape": np.array([0, 0, 64])} if "shape" in text else {}))  # fmt: skip


def feeds() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(1, 8, 8, 8)).astype(np.float32)} for _ in range(6)]


def found_in(text: str, wide: float) -> dict[str, str]:
    work = start(net(text, wide), QuantRecipe(), feeds())
    return mixed(work.model, work.plan(), work.calibration)


@pytest.mark.parametrize(
    ("text", "wide", "nodes"),
    [
        (END, 300.0, {"Concat_both"}),
        (END, 4.0, {"Concat_both"}),
        (END, 0.1, set()),
        (INSIDE, 300.0, {"Concat_both", "MaxPool_moved", "Conv_y"}),
        (INSIDE, 0.5, set()),
        (CHANNELS, 640.0, {"Mul_both"}),
        (CHANNELS, 4.0, set()),
    ],
)
def test_what_must_be_kept_apart_is_found_from_the_ranges(text: str, wide: float, nodes: set[str]) -> None:
    found = found_in(text, wide)
    assert set(found) == nodes
    assert all("one grid for" in reason for reason in found.values())


def test_what_is_float_already_is_not_found() -> None:
    work = start(net(END, 300.0), QuantRecipe(exclude=("Concat_both",)), feeds())
    assert mixed(work.model, work.plan(), work.calibration) == {}


def test_a_constant_operand_has_no_range_to_be_kept_apart() -> None:
    beside = model(
        """<ir_version: 9, opset_import: ["" : 18]>
        net (float[1,8,8,8] x) => (float[1,10,8,8] y) {
            r = Conv <pads = [1, 1, 1, 1]> (x, w)
            y = Concat <axis = 1> (r, far)
        }""",
        w=np.random.default_rng(0).normal(size=(8, 8, 3, 3)).astype(np.float32), far=np.ones((1, 2, 8, 8), np.float32),
    )  # fmt: skip
    work = start(beside, QuantRecipe(), feeds())
    assert "y" in work.plan().int8
    assert mixed(work.model, work.plan(), work.calibration) == {}


def error_of_scores(work: Work, exclude: tuple[str, ...]) -> float:
    """Largest error of the two channels of scores in int8."""
    work = Work(work.model, QuantRecipe(exclude=exclude), work.calibration, work.images)
    quantized = work.under((work.recipe,)).quantized()
    float_session, int8_session = open_session(work.model), open_session(exactly(quantized.model))
    return max(float(np.abs(float_session(f)["y"][:, 4:] - int8_session(f)["y"][:, 4:]).max()) for f in work.images)


def test_scores_beside_boxes_survive() -> None:
    work = start(net(END, 300.0), QuantRecipe(), feeds())
    apart = mixed(work.model, work.plan(), work.calibration)
    assert error_of_scores(work, ()) > 0.3, "all scores are 0 or one step of the boxes' grid"
    assert error_of_scores(work, tuple(apart)) < 0.05


def run(text: str) -> Contest:
    images = [feed["x"][0] for feed in feeds()]
    samples = Samples("made", tuple(map(str, range(len(images)))), lambda i: images[i], None, ())
    trial = Trial(samples, "x", max_drop=1.0, rounds=6, seconds=1.0, task="other")
    return compete(net(text, 300.0), QuantRecipe(), Material("x", (8, 8, 8), samples, samples), trial, 0.0)


@pytest.mark.parametrize(("text", "node"), [(END, "Concat_both"), (INSIDE, "Conv_y")])
def test_the_contest_keeps_them_apart_and_says_why(text: str, node: str) -> None:
    result = run(text)
    assert "one grid for ranges" in dict(result.quantized.float_nodes)[node]
    assert result.quantized.int8_nodes >= 3
    assert "one_scale" not in result.found.design.rewrites, "there is no Concat left that could copy"
