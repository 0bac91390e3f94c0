"""A norm of joined convolutions is taken apart and then folded; all that must stay says why."""

from __future__ import annotations

import onnx
import pytest

from edgecnn.float_passes import run_pass
from exporters.graph import op_counts
from exporters.passes import fold_batchnorm, norm_of_parts
from pass_examples import build, draw, statistics
from pass_examples.norm_of_parts import EXAMPLES
from rewrite_tools import check, same

HEADS = {
    "convs": "a = Conv (x, w1) b = Conv (x, w2)",
    "transposed": "a = Conv (x, w1) b = ConvTranspose <group = 2> (x, wt)",
    "read twice": "a = Conv (x, w1) b = Conv (x, w2) z = Relu (b)",
    "other": "a = Conv (x, w1) r = Conv (x, w2) b = Relu (r)",
    "input": "a = Conv (x, w1) b = Identity (x)",
}
WEIGHTS = {"w1": draw(3, 4, 1, 1), "w2": draw(4, 4, 1, 1), "wt": draw(4, 2, 1, 1), "wk": draw(7, 4, 1, 1)}


def model_of(
    head: str = "convs", norm: str = "", tail: str = "y = Relu (n)", both: bool = False, given: bool = False
) -> onnx.ModelProto:
    """A norm of two joined parts; `both`: the Concat is an output as well, `given`: a caller may set the scale."""
    body = f"{HEADS[head]} c = Concat <axis = 1> (a, b) n = BatchNormalization {norm} (c, s, h, m, v) {tail}"
    extra = ", float[N,4,5,5] z" if head == "read twice" else ", float[N,C,P,Q] c" if both else ""
    scale = ", float[7] s" if given else ""
    values = {**{k: v for k, v in WEIGHTS.items() if k in body}, **statistics(7)}
    return build(f" g (float[N,4,5,5] x{scale}) => (float[N,O,P,Q] y{extra}) {{ {body} }}", values)


def test_the_fold_takes_what_is_apart() -> None:
    model = EXAMPLES["two kernels"]
    assert fold_batchnorm.run(model).kept, "without the pass it stays"
    folded = fold_batchnorm.run(norm_of_parts.run(model).model)
    assert op_counts(folded.model) == {"Conv": 2, "Split": 1, "Concat": 1, "Relu": 1}
    same(model, folded.model).require(snr_db=100.0)


def test_it_is_part_of_simplifying() -> None:
    model, _ = run_pass("simplify", EXAMPLES["two kernels"])
    assert op_counts(model)["BatchNormalization"] == 2


@pytest.mark.parametrize("head", ["convs", "transposed"])
def test_every_channel_keeps_its_own_numbers(head: str) -> None:
    model = model_of(head, norm="<epsilon = 0.5>")
    result = norm_of_parts.run(model)
    check(result, model, acts=True)
    assert [node.name for node in result.model.graph.node if node.op_type == "BatchNormalization"] == [
        "net.n/0",
        "net.n/1",
    ]
    assert not {"s", "h", "m", "v", "c"} & {t.name for t in result.model.graph.initializer}
    check(fold_batchnorm.run(result.model), result.model, acts=True)


def test_parameters_that_another_norm_reads_stay_for_it() -> None:
    model = model_of(tail="k = Conv (x, wk) o = BatchNormalization (k, s, h, m, v) y = Add (n, o)")
    check(norm_of_parts.run(model), model, acts=True)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (model_of("read twice"), "net.b is read 2 times"),
        (model_of("other"), "b is not made by a Conv"),
        (model_of("input"), "b is not made by a Conv"),
        (model_of(both=True), "Concat net.c is also an output"),
        (model_of(given=True), "parameters are not constant"),
    ],
)
def test_what_stays_says_why(model: onnx.ModelProto, reason: str) -> None:
    result = norm_of_parts.run(model)
    assert result.model == model
    assert reason in result.kept[0].reason


def test_images_that_are_joined_side_by_side_are_not_apart_in_channels() -> None:
    values = {"w1": draw(7, 4, 1, 1), "w2": draw(7, 4, 1, 1), **statistics(7)}
    body = "a = Conv (x, w1) b = Conv (x, w2) c = Concat <axis = 3> (a, b) y = BatchNormalization (c, s, h, m, v)"
    model = build(f" g (float[N,4,5,5] x) => (float[N,O,P,Q] y) {{ {body} }}", values)
    result = norm_of_parts.run(model)
    assert result.model == model
    assert "does not join channels" in result.kept[0].reason


def test_a_norm_of_training_stays() -> None:
    model = model_of()
    norm = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    norm.attribute.append(onnx.helper.make_attribute("training_mode", 1))
    norm.output.extend(["rm", "rv"])
    assert "training mode" in norm_of_parts.run(model).kept[0].reason
