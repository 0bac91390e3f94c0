"""By how much masks overlap: scikit-learn's jaccard_score, but for the edges of objects, which are forgiven."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from edgecnn.evaluation.overlap import FORGIVEN, Overlap
from runtimes.base import Array
from runtimes.imaging.maps import NONE

SIDE = 64


def between(ours: Array, theirs: Array) -> Overlap:
    found = Overlap()
    for one, other in zip(ours.reshape(-1, *ours.shape[-2:]), theirs.reshape(-1, *ours.shape[-2:]), strict=True):
        found.add(one.astype(np.int64), other.astype(np.int64))
    return found


def square(size: int, at: int = 20) -> Array:
    mask = np.zeros((SIDE, SIDE), np.int64)
    mask[at : at + size, at : at + size] = 1
    return mask


def test_far_from_edges_it_is_sklearns() -> None:
    """Blocks of 8 whose inner pixels differ, so that no neighbour has the other class."""
    order = np.random.default_rng(0)
    small = order.integers(0, 3, (5, 8, 8))
    ours = small.repeat(8, 1).repeat(8, 2)
    theirs = ours.copy()
    for image, down, right in order.integers(0, [5, 8, 8], (40, 3)):
        theirs[image, 8 * down + 3 : 8 * down + 5, 8 * right + 3 : 8 * right + 5] = 3 + (image % 2)
    found = between(ours, theirs)
    kept = [c for c in range(5) if ((ours == c) | (theirs == c)).sum() >= 100]
    assert 0 < len(kept) < 5
    wanted = jaccard_score(ours.ravel(), theirs.ravel(), average=None, labels=kept)
    assert list(found.by_class().values()) == pytest.approx(wanted.tolist(), abs=1e-12)
    assert found.share == pytest.approx(wanted.mean(), abs=1e-12)
    assert found.same == (ours == theirs).sum()


def test_an_edge_that_moves_is_forgiven_and_an_object_that_is_lost_is_not() -> None:
    big = square(40, 10)
    ragged = big.copy()
    ragged[10, 10:50:3] = 0  # a pixel here and there off the upper edge: 14 of 1600
    assert between(big, ragged).share == 1.0
    assert between(big, np.zeros_like(big)).by_class() == {0: pytest.approx(1 - 1600 / SIDE**2), 1: 0.0}
    inner = big.copy()
    inner[25:29, 25:29] = 0
    assert between(big, inner).by_class()[1] == 1 - 16 / 1600
    assert between(inner, big).share == between(big, inner).share


def test_an_object_that_is_all_edge_is_not_forgiven_for_being_small() -> None:
    """A square of 12 that lost a pixel all around is 100 of 144; a line of two pixels that lost one is half."""
    assert between(square(12), square(10, 21)).by_class()[1] == pytest.approx(100 / 144 + FORGIVEN, abs=1e-12)
    line, thin = np.zeros((SIDE, SIDE), int), np.zeros((SIDE, SIDE), int)
    line[30:32], thin[30] = 1, 1
    assert between(line, thin).by_class()[1] == pytest.approx(0.5 + FORGIVEN, abs=1e-12)


def test_a_class_of_a_few_stray_pixels_does_not_decide() -> None:
    stray = np.zeros((SIDE, SIDE), int)
    stray[::7, ::7] = 1
    nothing = np.zeros_like(stray)
    assert stray.sum() == 100
    assert between(stray, nothing).by_class()[1] == 0.0
    stray[0, 0] = 0
    assert set(between(stray, nothing).by_class()) == {0}
    assert between(stray[:2, :8], nothing[:2, :8]).by_class() == {0: 1 - 1 / 16, 1: 0.0}, "all, where none has 100"


def test_what_has_no_class_overlaps_with_nothing() -> None:
    mask = square(20)
    broken = mask.copy()
    broken[20:30, 20:40] = NONE
    assert between(mask, broken).by_class()[1] == 0.5
    assert between(broken, broken).by_class()[1] == 1.0
    full, edge = np.ones_like(mask), np.ones_like(mask)
    edge[0] = NONE  # nor is it the edge of an object, at the rim of the picture either
    assert between(full, edge).by_class()[1] == between(edge, full).by_class()[1] == 1 - 1 / SIDE
    nowhere = np.full_like(mask, NONE)
    assert between(nowhere, nowhere).share == 0.0
    far = mask * 3_000_000_000  # a map of classes may call them anything
    assert between(far, far).share == 1.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 200))
def test_the_truth_never_loses_more_than_the_masks_differ(seed: int, changed: int) -> None:
    """For each class, but for the share that is forgiven: the distance of Jaccard is one."""
    order = np.random.default_rng(seed)
    truth, ours = (order.integers(0, 2, (3, 16, 16)) for _ in range(2))
    theirs = ours.copy()
    theirs.ravel()[order.choice(theirs.size, changed)] ^= 1
    iou = [jaccard_score(truth.ravel(), mask.ravel(), average=None, labels=[0, 1]) for mask in (ours, theirs)]
    room = 1 - np.array(list(between(ours, theirs).by_class().values())) + FORGIVEN
    assert (np.abs(iou[0] - iou[1]) <= room + 1e-12).all()
