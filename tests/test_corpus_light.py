"""Nine published networks (AlexNet to ResNet-50) with live weights through simplify and fold, compared logit by logit.

Limit: 1e-5 of the largest logit. One float32 rounding is 6e-8 and a fold rounds each weight once more; layers of
reordered sums add up to 1e-6 here, and a wrong fold is off by tenths. Oracle: ONNX Runtime, unoptimized, on the file.
"""

from __future__ import annotations

import gc

import numpy as np
import onnx
import pytest

from edgecnn.float_passes import simplified
from exporters.graph import op_counts
from exporters.passes import fold_batchnorm
from reseeded import NAMES, reseeded
from runtimes.base import Tensors
from runtimes.session import open_session, random_feeds

RELATIVE_ERROR = 1e-5


def test_there_are_nine() -> None:
    assert len(NAMES) == 9


def logits(model: onnx.ModelProto, feeds: Tensors) -> np.ndarray:
    (value,) = open_session(model, optimize=False, threads=1)(feeds).values()
    return value


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_simplified_and_folded_is_the_same_network(name: str) -> None:
    model = reseeded(name)
    onnx.checker.check_model(model)
    feeds = random_feeds(open_session(model, optimize=False).inputs, seed=1)
    truth = logits(model, feeds)
    assert np.unique(truth).size > 100, "live weights: the logits differ from each other"
    assert 1e-3 < np.abs(truth).max() < 1e6, "neither died nor exploded"
    norms = op_counts(model).get("BatchNormalization", 0)

    result = simplified(model, timeout_s=300.0, memory_mb=8192)
    assert not result.kept
    model = result.model
    assert op_counts(model).get("BatchNormalization", 0) == norms, "the fold is ours"
    assert np.abs(logits(model, feeds) - truth).max() <= RELATIVE_ERROR * np.abs(truth).max()

    folded = fold_batchnorm.run(model)
    del model, result
    gc.collect()  # VGG-19 has half a gigabyte
    error = np.abs(logits(folded.model, feeds) - truth).max() / np.abs(truth).max()
    assert error <= RELATIVE_ERROR
    if norms:
        assert folded.changes
