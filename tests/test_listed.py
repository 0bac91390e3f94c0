"""Lists are lists in whatever form they come, and their order does not count."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.comparing import listed
from runtimes.parity import compare

RNG = np.random.default_rng(0)
CORNERS = RNG.uniform(0, 50, (6, 2)).astype(np.float32)
FOUND = {
    "boxes": np.concatenate([CORNERS, CORNERS + 20], 1),
    "scores": RNG.uniform(0.2, 1, 6).astype(np.float32),
    "labels": np.arange(6),
}
ORDER = RNG.permutation(6)
X = {"x": np.zeros((1, 3), np.float32)}


def padded(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Two images: all of it, and nothing."""
    made = {f"det_{k}": np.stack([np.pad(v, [(0, 2)] + [(0, 0)] * (v.ndim - 1))] * 2) for k, v in found.items()}
    return {"num_dets": np.array([[6], [0]], np.int32), **made}


@pytest.mark.parametrize("form", [dict, padded])
def test_the_same_boxes_in_another_order_are_the_same(form: object) -> None:
    mixed = {name: value[ORDER] for name, value in FOUND.items()}
    report = compare(lambda _: form(FOUND), lambda _: form(mixed), [X])
    assert report.matching is not None
    assert (report.matching.matched, report.max_abs) == (6, 0)
    moved = {**mixed, "boxes": mixed["boxes"] + np.float32(1)}
    assert compare(lambda _: form(FOUND), lambda _: form(moved), [X]).max_abs == pytest.approx(1, abs=1e-5)


def test_a_box_too_few_is_lost() -> None:
    fewer = {name: value[1:] for name, value in FOUND.items()}
    report = compare(lambda _: FOUND, lambda _: fewer, [X])
    assert report.matching is not None
    assert report.matching.lost == 1
    assert report.max_abs > 1


def test_outputs_without_names_take_the_others() -> None:
    full = {**FOUND, "image": np.zeros(6, np.int64)}
    numbered = {f"output_{i}": value[ORDER] for i, value in enumerate(full.values())}
    assert compare(lambda _: full, lambda _: numbered, [X]).max_abs == 0
    assert compare(lambda _: numbered, lambda _: full, [X]).max_abs == 0


@pytest.mark.parametrize(
    "outputs",
    [
        {"logits": np.zeros((1, 4))},
        {"boxes": np.zeros((1, 4))},
        {"scores": np.zeros(3)},
        {**FOUND, "embedding": CORNERS},  # which would not be compared
        {**FOUND, "box_scores": FOUND["scores"]},
        {**FOUND, "boxes": FOUND["boxes"][:, :3]},
        {**FOUND, "scores": FOUND["scores"][1:]},
        {**FOUND, "scores": np.float32(0.5)},
        {**padded(FOUND), "num_dets": np.array([[6], [0], [0]], np.int32)},
        {**padded(FOUND), "num_dets": np.array([[6], [0]], np.float32)},
        {**padded(FOUND), "det_scores": np.zeros((2, 7), np.float32)},
    ],
)
def test_other_outputs_are_left_alone(outputs: dict[str, np.ndarray]) -> None:
    assert listed.detections(outputs) is None


@pytest.mark.parametrize(
    "other", [{"a": CORNERS}, {"a": CORNERS, "b": CORNERS, "c": CORNERS}], ids=["fewer", "no list"]
)
def test_detections_against_something_else_do_not_pass(other: dict[str, np.ndarray]) -> None:
    for ours, theirs in ((FOUND, other), (other, FOUND)):
        report = compare(lambda _, ours=ours: ours, lambda _, theirs=theirs: theirs, [X])
        assert report.matching is None
        assert report.failures(snr_db=0.0)


def test_rows_of_indices_are_a_set() -> None:
    rows = RNG.integers(0, 9, (5, 3))
    assert compare(lambda _: {"i": rows}, lambda _: {"i": rows[::-1].copy()}, [X]).outputs[0].same == 1
    other = rows.copy()
    other[2, 1] += 1
    out = compare(lambda _: {"i": rows}, lambda _: {"i": other[::-1].copy()}, [X]).outputs[0]
    assert out.max_abs == 1
    assert 0.8 < out.same < 1


def test_a_label_an_image_has_its_place() -> None:
    """(N, 1) of N images is no list: two swapped answers are two wrong ones."""
    swapped = compare(
        lambda _: {"i": np.array([[0], [1]])}, lambda _: {"i": np.array([[1], [0]])}, [{"x": np.zeros(2)}]
    )
    assert swapped.outputs[0].same == 0
