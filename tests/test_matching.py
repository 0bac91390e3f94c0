"""Pairs of detections: by hand, under permutations and batches, with ties, NaN and nothing at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.base import Array
from runtimes.comparing.matching import NAMES, Matching, align, disagreement, iou, is_detections, pad, unpad
from runtimes.parity import compare

MARGIN = 1e-3


def detections(*found: tuple[int, int, float, float]) -> dict[str, Array]:
    """(image, label, score, left edge) each; boxes are 10 x 10 pixels."""
    image, label, score, left = (
        (np.array(column) for column in zip(*found, strict=True)) if found else [np.zeros(0)] * 4
    )
    boxes = np.stack([left, 0 * left, left + 10, 0 * left + 10], 1).astype(np.float32)
    return {"boxes": boxes, "scores": score.astype(np.float32), "labels": label.astype(int), "image": image.astype(int)}


def random_detections(seed: int, count: int = 40) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 90, (count, 2))
    return {
        "boxes": np.concatenate([low, low + rng.uniform(5, 20, (count, 2))], 1).astype(np.float32),
        "scores": rng.uniform(0.1, 1, count).astype(np.float32),
        "labels": rng.integers(0, 3, count),
        "image": np.sort(rng.integers(0, 3, count)),
    }


def picked(side: dict[str, Array], index: Array) -> dict[str, Array]:
    return {name: value[index] for name, value in side.items()}


def test_a_list_against_itself_has_no_difference() -> None:
    side = random_detections(0)
    left, right, seen = align(side, side, MARGIN)
    assert seen == Matching(matched=40)
    for name, value in side.items():
        assert np.array_equal(left[name], value)
        assert np.array_equal(right[name], value)


@given(seed=st.integers(0, 2**32 - 1), noise=st.sampled_from([0.0, 1e-4, 0.3]))
def test_the_order_of_rows_means_nothing(seed: int, noise: float) -> None:
    """Shuffled and moved by less than a box: every row finds its own again, unless two boxes nearly coincide."""
    rng = np.random.default_rng(seed)
    side = random_detections(seed % 1000)
    other = {**side, "boxes": side["boxes"] + rng.uniform(-noise, noise, side["boxes"].shape).astype(np.float32)}
    order = rng.permutation(40)
    left, right, seen = align(side, picked(other, order), MARGIN)
    assert seen == Matching(matched=40)
    assert np.array_equal(left["boxes"], side["boxes"])
    if noise < 0.01:
        assert np.abs(left["boxes"] - right["boxes"]).max() <= noise + 1e-5
        assert np.array_equal(left["scores"], right["scores"])


def test_lost_and_extra_rows_stand_against_zeros() -> None:
    """B has another label, C lies elsewhere, D is in another image: none of them is the same detection."""
    ours = detections((0, 0, 0.9, 0), (0, 1, 0.8, 50), (0, 1, 0.7, 100), (1, 0, 0.6, 0))
    theirs = detections((0, 0, 0.9, 1), (0, 2, 0.8, 50), (0, 1, 0.7, 120), (2, 0, 0.6, 0))
    left, right, seen = align(ours, theirs, MARGIN)
    assert seen == Matching(matched=1, lost=3, extra=3)
    assert left["scores"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0, 0, 0])
    assert right["scores"].tolist() == pytest.approx([0.9, 0, 0, 0, 0.8, 0.7, 0.6])
    assert right["boxes"][:, 0].tolist() == [1, 0, 0, 0, 50, 120, 0]


def test_the_largest_overlap_goes_first() -> None:
    """A box at 4 would fit 2 and 5; the pair (4, 5) is nearer, and 2 then takes what is left to it."""
    ours, theirs = detections((0, 0, 0.9, 2), (0, 0, 0.5, 5)), detections((0, 0, 0.9, 4), (0, 0, 0.8, 0))
    left, right, seen = align(ours, theirs, MARGIN)
    assert seen.matched == 2
    assert left["boxes"][:, 0].tolist() == [2, 5]
    assert right["boxes"][:, 0].tolist() == [0, 4]


def test_of_equal_boxes_the_nearer_scores_go_together() -> None:
    ours = detections((0, 0, 0.9, 0), (0, 0, 0.5, 0), (0, 0, 0.2, 0))
    theirs = detections((0, 0, 0.21, 0), (0, 0, 0.91, 0), (0, 0, 0.51, 0))
    _, right, seen = align(ours, theirs, MARGIN)
    assert seen == Matching(matched=3)
    assert right["scores"].tolist() == pytest.approx([0.91, 0.51, 0.21])


def test_overlap_of_one_half_is_enough() -> None:
    """10 x 10 boxes moved by s share (10 - s) of (10 + s): one half at 10/3."""
    for moved, pairs in ((3.3, 1), (3.4, 0)):
        assert align(detections((0, 0, 0.9, 0)), detections((0, 0, 0.9, moved)), MARGIN)[2].matched == pairs


# --------------------------------------------------------------------------------------------------------- near ties
def cut(scores: list[float], places: list[float]) -> dict[str, Array]:
    return detections(*((0, 0, s, p) for s, p in zip(scores, places, strict=True)))


def long_list(last: float, place: float, count: int = 25) -> dict[str, Array]:
    return cut([0.99 - i / 100 for i in range(count - 1)] + [last], [20.0 * i for i in range(count - 1)] + [place])


def test_a_near_tie_at_the_end_of_a_full_list_is_left_out() -> None:
    assert align(long_list(0.5, 2000), long_list(0.5005, 3000), MARGIN)[2] == Matching(matched=24, near_ties=2)


def test_no_tie_where_the_scores_differ_or_the_other_list_is_shorter() -> None:
    assert align(long_list(0.5, 2000), long_list(0.51, 3000), MARGIN)[2] == Matching(24, 0, 1, 1)
    shorter = picked(long_list(0.5, 2000), np.arange(24))
    assert align(long_list(0.5, 2000), shorter, MARGIN)[2] == Matching(24, 1, 0, 0)
    assert align(shorter, long_list(0.5, 2000), MARGIN)[2] == Matching(24, 0, 1, 0)


def test_a_short_list_has_no_near_ties() -> None:
    """Otherwise a network that finds one box at the wrong place would pass."""
    assert align(cut([0.9], [0]), cut([0.9], [500]), MARGIN)[2] == Matching(0, 1, 1, 0)
    assert align(long_list(0.5, 2000, 19), long_list(0.5, 3000, 19), MARGIN)[2] == Matching(18, 1, 1, 0)


def test_only_the_share_of_a_list_may_be_near_ties() -> None:
    """40 equal scores, all at other places: two of each may be ties."""
    ours, theirs = cut([0.5] * 40, [20.0 * i for i in range(40)]), cut([0.5] * 40, [2000 + 20.0 * i for i in range(40)])
    assert align(ours, theirs, MARGIN)[2] == Matching(0, 38, 38, 4)


def test_detections_below_the_limit_count_only_with_a_counterpart_above_it() -> None:
    ours = detections((0, 0, 0.9, 0), (0, 0, 0.31, 100), (0, 0, 0.45, 200), (0, 0, 0.1, 300), (0, 0, 0.2, 400))
    theirs = detections((0, 0, 0.29, 0), (0, 0, 0.1, 300), (0, 0, 0.35, 400))
    left, _, seen = align(ours, theirs, 0.1, low=0.3)
    assert seen == Matching(matched=2, lost=1, extra=0, near_ties=1)
    assert left["scores"].tolist() == pytest.approx([0.9, 0.2, 0.45])
    assert align(detections((0, 0, 0.25, 0)), detections(), 0.1, low=0.25)[2] == Matching(near_ties=1)


# ------------------------------------------------------------------------------------------------- odd input, parity
@pytest.mark.parametrize("which", ["both", "reference", "candidate"])
def test_nothing_found_is_a_list_of_length_zero(which: str) -> None:
    some, none = detections((0, 1, 0.9, 0), (1, 1, 0.8, 0)), detections()
    ours, theirs = (none if which in (name, "both") else some for name in ("reference", "candidate"))
    left, right, seen = align(ours, theirs, MARGIN)
    count = 0 if which == "both" else 2
    assert left["boxes"].shape == right["boxes"].shape == (count, 4)
    assert (seen.lost, seen.extra) == ((2, 0) if which == "candidate" else (0, 2 if which == "reference" else 0))


def test_a_box_of_nan_has_no_counterpart() -> None:
    broken = detections((0, 0, 0.9, np.nan))
    assert align(broken, broken, MARGIN)[2] == Matching(0, 1, 1, 0)
    lost = detections((0, 0, np.nan, 0))
    assert align(detections((0, 0, 0.9, 100)), lost, MARGIN)[2] == Matching(0, 1, 1, 0)


def test_overlap_of_boxes_without_area() -> None:
    """Cut to a line by the edge of the image, a box is still itself; a hundredth of a pixel is rounding."""
    flat = np.array([[0, 0, 0, 5], [0, 0, 5, 5]], np.float32)
    assert iou(flat, flat).tolist() == [[1, 0], [0, 1]]
    assert iou(flat, flat + np.float32([0.01, 0, 0.01, 0]))[0].tolist() == [1, 0]
    assert iou(flat, flat + np.float32([0.2, 0, 0.2, 0]))[0].tolist() == [0, 0]


def test_what_detections_look_like() -> None:
    side = detections((0, 0, 0.9, 0))
    assert is_detections(side)
    assert not is_detections({**side, "logits": side["scores"]})
    assert not is_detections({name: side[name] for name in ("boxes", "scores", "labels")})
    assert not is_detections({**side, "boxes": side["boxes"][:, :3]})
    assert not is_detections({**side, "scores": side["scores"][None]})


def test_parity_of_detections_ignores_their_order_and_counts_what_is_missing() -> None:
    side = random_detections(3)
    feeds = [{"input": np.zeros((3, 1), np.float32)}] * 2
    shuffled = picked(side, np.random.default_rng(0).permutation(40))
    report = compare(lambda f: side, lambda f: shuffled, feeds)
    assert (report.images, report.max_abs, report.snr_db) == (6, 0.0, np.inf)
    assert report.matching == Matching(matched=80)
    missing = compare(lambda f: side, lambda f: picked(side, np.arange(39)), feeds)
    assert missing.matching == Matching(matched=78, lost=2)
    assert missing.snr_db < 30  # one of forty rows is noise
    assert missing.failures(snr_db=60.0)
    moved = compare(lambda f: side, lambda f: {**side, "boxes": side["boxes"] + np.float32(0.25)}, feeds)
    assert moved.max_abs == pytest.approx(0.25, abs=1e-5)
    assert moved.top1 is None  # the largest of four coordinates is no answer
    assert moved.to_dict()["matching"] == {"matched": 80, "lost": 0, "extra": 0, "near_ties": 0}


# ------------------------------------------------------------------------------------------------------------ golden
def test_tables_of_single_images_give_their_detections_back() -> None:
    lists = [detections((0, 1, 0.9, 5), (0, 0, 0.0, 7)), detections(), detections((0, 2, 0.4, 1))]
    tables = pad(lists)
    assert {name: table.shape for name, table in tables.items()} == {
        "boxes": (3, 2, 4), "scores": (3, 2), "labels": (3, 2), "image": (3, 2)
    }  # fmt: skip
    for i, expected in enumerate(lists):
        found = unpad(tables, i)
        assert all(np.array_equal(found[name], expected[name]) for name in NAMES)
        assert all(found[name].dtype == expected[name].dtype for name in NAMES)
    assert pad([detections()])["boxes"].shape == (1, 0, 4)


def test_disagreement_is_a_mean_over_what_one_side_is_sure_of() -> None:
    """Boxes of `detections` are 10 wide: by 2.5 pixels is a quarter."""
    ours = detections((0, 0, 0.9, 0), (0, 0, 0.2, 100))
    assert disagreement([ours], [ours]) == 0
    assert disagreement([ours], [detections((0, 0, 0.9, 2.5))]) == 0.25
    assert disagreement([ours], [detections((0, 0, 0.8, 0), (0, 0, 0.1, 300))]) == pytest.approx(0.1)
    assert disagreement([ours], [detections((0, 0, 0.9, 0), (0, 0, 0.7, 50))]) == 0.5  # one of two should not be there
    assert disagreement([ours], [detections()]) == 1
    assert disagreement([ours, detections()], [ours, detections((0, 0, 0.9, 0))]) == 0.5  # of all images together
    assert disagreement([ours], [detections((0, 0, 0.9, np.nan))]) == np.inf
    assert disagreement([detections()], [detections()]) == 0


def test_where_nothing_is_sure_all_detections_count() -> None:
    unsure = detections((0, 0, 0.1, 0), (0, 0, 0.05, 100))
    assert disagreement([unsure], [unsure]) == 0
    assert disagreement([unsure], [detections((0, 0, 0.1, 0))]) == 0.5
    assert disagreement([unsure], [detections()]) == 1
