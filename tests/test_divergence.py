"""What a diff says of the layer at which two models part, of hand-made findings; tests/test_diff.py has real models."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgecnn.checking.divergence import DiffReport, Divergence
from runtimes.base import CheckFailed, Inconclusive

FOUND = Divergence("Conv_a", "Conv", "features.0", 21.0, 22.0, 60.0, at_fault=True)
REPORT = DiffReport("a.onnx", "b.onnx", "random", 2, 5, 9, 3, FOUND, output_db=40.0)
FIRST = "Conv node Conv_a (module features.0) is the first that differs"
REGION = replace(FOUND, nodes=3, begins="Pad_p")


@pytest.mark.parametrize(
    ("first", "sentence", "proof"),
    [
        (
            FOUND,
            f"{FIRST}, 21.0 dB against 60.0 dB",
            " Alone, on the reference's inputs, it gives 22.0 dB: the layer is at fault.",
        ),
        (replace(FOUND, module=""), "Conv node Conv_a is the first that differs, 21.0 dB against 60.0 dB", None),
        (
            replace(FOUND, at_fault=False),
            f"{FIRST}, 21.0 dB against 60.0 dB; alone, on the reference's inputs, it is right",
            "",
        ),
        (
            replace(FOUND, snr_db=-math.inf, alone_db=-math.inf),
            f"{FIRST}: it makes another shape, NaN or Inf",
            " Alone, on the reference's inputs, it does so too: the layer is at fault.",
        ),
        (
            replace(FOUND, cause="no kernel"),
            "Conv node Conv_a (module features.0) is the first that does not run: no kernel",
            "",
        ),
        (
            REGION,
            "3 nodes up to Conv node Conv_a (module features.0) differ first, 21.0 dB against 60.0 dB",
            " Alone, on the reference's inputs, they give 22.0 dB: "
            "the fault is somewhere in these 3 nodes, Pad_p to Conv_a.",
        ),
        (
            replace(REGION, snr_db=-math.inf, alone_db=-math.inf),
            "3 nodes up to Conv node Conv_a (module features.0) differ first: they make another shape, NaN or Inf",
            " Alone, on the reference's inputs, they do so too: "
            "the fault is somewhere in these 3 nodes, Pad_p to Conv_a.",
        ),
        (
            replace(REGION, at_fault=False),
            "3 nodes up to Conv node Conv_a (module features.0) differ first, 21.0 dB against 60.0 dB; "
            "alone, on the reference's inputs, they are right",
            "",
        ),
    ],
)
def test_the_layer_that_parts_is_named_with_its_proof(first: Divergence, sentence: str, proof: str | None) -> None:
    report = replace(REPORT, first=first)
    assert report.sentence == sentence
    assert report.verdict.startswith(f"b.onnx: {sentence}; 2 samples of random, 5 common tensors, 3 partial runs.")
    assert proof is None or first.proof == proof
    assert report.verdict.endswith(first.proof)
    with pytest.raises(CheckFailed, match=r"b\.onnx: "):
        raise report.failure or AssertionError("it passes")


def test_models_that_do_not_part_pass() -> None:
    same = replace(REPORT, first=None)
    assert same.failure is None
    assert same.verdict == (
        "b.onnx: no layer parts from a.onnx: 40.0 dB at the outputs; "
        "2 samples of random, 5 common tensors, 3 partial runs."
    )


@pytest.mark.parametrize(
    ("output_db", "ends"), [(12.0, "doubtful: 12.0 dB at the outputs; "), (-math.inf, "doubtful; ")]
)
def test_where_no_layer_can_be_blamed_it_is_inconclusive(output_db: float, ends: str) -> None:
    report = replace(REPORT, first=None, doubt="doubtful", output_db=output_db)
    assert isinstance(report.failure, Inconclusive)
    assert report.verdict.startswith(f"b.onnx: inconclusive: {ends}2 samples")
    assert report.to_dict()["inconclusive"] == "doubtful"
