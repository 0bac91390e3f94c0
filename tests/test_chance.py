"""When a classifier is called no better than chance; oracle: scipy's exact binomial."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgecnn.data.samples import Samples
from edgecnn.evaluation.chance import chance_warning, no_better_than_chance, random_precision
from edgecnn.evaluation.scores import at_most


def labelled(labels: np.ndarray) -> Samples:
    ids = tuple(str(i) for i in range(len(labels)))
    return Samples("photos", ids, lambda i: np.zeros((3, 4, 4), np.float32), labels, tuple("abcdefghij"))


@pytest.mark.parametrize(("k", "n", "p"), [(0, 5, 0.2), (46, 450, 0.1), (63, 450, 0.1), (450, 450, 0.9), (3, 30, 0.04)])
def test_the_tail_is_scipys(k: int, n: int, p: float) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with scikit-learn")
    assert at_most(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-9)


def test_the_limit_is_where_a_one_sided_test_rejects() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with scikit-learn")
    said = [no_better_than_chance(k, 450, 0.1) for k in range(451)]
    assert said == [stats.binomtest(k, 450, 0.1, alternative="greater").pvalue > 0.05 for k in range(451)]


def test_few_images_tell_nothing() -> None:
    assert not no_better_than_chance(0, 29, 0.5)
    assert no_better_than_chance(15, 30, 0.5)


def test_always_the_most_frequent_class_is_chance() -> None:
    """90 % right, and nothing learned: 90 of 100 images are of one class."""
    line = chance_warning("m.onnx", "top-1", 0.9, labelled(np.repeat([0, 1], [90, 10])), 2)
    assert line.startswith(
        "m.onnx is right on 90.0 % of 100 images, no better than chance for 2 classes (90 % are of one)"
    )
    assert "--labels" in line
    assert "--preprocess" in line
    assert chance_warning("m.onnx", "top-1", 0.9, labelled(np.repeat([0, 1], [50, 50])), 2) == ""


def test_only_a_share_of_right_answers_is_judged() -> None:
    samples = labelled(np.arange(100) % 10)
    assert chance_warning("m", "top-1", 0.1, samples, 10)
    for other in (("mIoU", 0.1, samples, 10), ("top-1", None, samples, 10), ("top-1", 0.1, samples, None)):
        assert chance_warning("m", *other) == ""
    assert chance_warning("m", "top-1", 0.1, samples.without_answers(), 10) == ""


def test_of_labels_that_do_not_exclude_each_other_only_those_that_occur_count() -> None:
    """One image of 40 has the first label, all have the second and none the third, which no order can rank."""
    truth = np.zeros((40, 3), np.float32)
    truth[0, 0] = truth[:, 1] = 1
    samples = replace(labelled(np.zeros(40, int)), labels=None, truth=truth)
    by_luck = (random_precision(1, 40) + random_precision(40, 40)) / 2
    line = chance_warning("m", "mAP", by_luck - 1e-6, samples, 3)
    assert f"no better than a random order, which has {by_luck:.1%}: " in line
    assert chance_warning("m", "mAP", by_luck + 1e-6, samples, 3) == ""
    assert chance_warning("m", "mAP", 0.0, replace(samples, truth=truth[:, 0]), 3) == "", "a number an image"
    few = replace(samples, ids=samples.ids[:29], truth=truth[:29])
    assert chance_warning("m", "mAP", 0.0, few, 3) == ""


def test_numbers_are_no_better_than_their_mean_at_nought() -> None:
    samples = replace(labelled(np.zeros(40, int)), labels=None, truth=np.arange(40.0)[:, None])
    assert "has R^2 0.00 on 40 images, no better than always the mean" in chance_warning("m", "R^2", 0.0, samples, None)
    assert chance_warning("m", "R^2", 0.01, samples, None) == ""
