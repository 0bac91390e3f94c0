"""When a classifier is called no better than chance; oracle: scipy's exact binomial."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.data.samples import Samples
from edgecnn.evaluation.chance import at_least, chance_warning, no_better_than_chance


def labelled(labels: np.ndarray) -> Samples:
    ids = tuple(str(i) for i in range(len(labels)))
    return Samples("photos", ids, lambda i: np.zeros((3, 4, 4), np.float32), labels, tuple("abcdefghij"))


@pytest.mark.parametrize(("k", "n", "p"), [(0, 5, 0.2), (46, 450, 0.1), (63, 450, 0.1), (450, 450, 0.9), (3, 30, 0.04)])
def test_the_tail_is_scipys(k: int, n: int, p: float) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with scikit-learn")
    assert at_least(k, n, p) == pytest.approx(stats.binom.sf(k - 1, n, p), rel=1e-9)


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
