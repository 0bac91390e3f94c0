"""Every detector of the zoo keeps the contract of its task."""

from __future__ import annotations

import pytest
import torch

from edgecnn.networks import zoo

NAMES = [row.name for row in zoo.list_models() if row.task == "detection"]


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_answers_with_boxes_scores_labels_and_images(name: str) -> None:
    spec = zoo.find(name)
    with torch.device("meta"):
        boxes, scores, labels, image = spec.build(num_classes=7).eval()(torch.zeros(2, *spec.input_shape))
    count = len(scores)
    assert (boxes.shape, scores.shape, labels.shape, image.shape) == ((count, 4), (count,), (count,), (count,))
    assert (labels.dtype, image.dtype) == (torch.int64, torch.int64)
    assert count % 2 == 0  # without values every image has as many as it may have
