"""What an answer of numbers, (N, K) or (N,), means where nobody said its task: by its last operator and by its looks.

    labels, one class an image         ->  classification
    one number, behind a Sigmoid or
      with two class names             ->  classification of two classes       (runtimes/comparing/two_classes.py)
    one number otherwise               ->  regression
    several, each behind a Sigmoid     ->  multi-label: they do not exclude each other
    several, always of length 1        ->  embedding, also where the data has classes: identities
    anything else                      ->  classification, with a line where no logits look like that

What is not certain is told in a line that names `--task`. No torch here. Test: tests/test_meaning.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgecnn.evaluation.scores import words_of
from edgecnn.tasks import EMBEDDING, IMAGE, KEYPOINTS, MULTI_LABEL, OTHER, REGRESSION, SEGMENTATION
from exporters.ending import SIGMOID
from runtimes.base import Array
from runtimes.comparing.two_classes import class_count, is_single
from runtimes.imaging.answered import is_picture
from runtimes.imaging.keypoints import is_points

CLASSES = "classification"
SEEN = 16
"""Images whose answers are looked at."""
LARGEST_LOGIT = 100.0
"""exp(100) is 10^43: a classifier that is so sure of every picture was not trained by cross-entropy."""
PLACES = 8
"""Numbers that are all above 0 by chance, where a network is untrained, once in 256 times."""
UNIT = 1e-3
"""How far a length may be from 1 in float32 and in float16."""
WANTED = {
    "classification": "classes are (N, classes)",
    MULTI_LABEL: "labels are (N, labels)",
    SEGMENTATION: "maps of classes are (N, classes, height, width)",
    IMAGE: "pictures are (N, 1 or 3, height, width)",
    KEYPOINTS: "points are heatmaps (N, K, height, width), or coordinates (N, 2 K) or (N, K, 2)",
    "detection": "detections are boxes, scores, labels and images (docs/detectors.md)",
}
SHAPED: dict[str, Callable[[Sequence[object]], bool]] = {
    **dict.fromkeys((CLASSES, MULTI_LABEL), lambda sizes: len(sizes) < 2),
    SEGMENTATION: lambda sizes: len(sizes) in (2, 3),
    IMAGE: is_picture,
    KEYPOINTS: is_points,
}
"""By task, what tells whether an answer of these sizes, without the images, may be for it."""
DETECTED = 4
"""Outputs of a detector."""


def of_answers(
    name: str, shape: Sequence[object], ending: str, answers: Array, labelled: bool, names: int
) -> tuple[str, str]:
    """(task, the line that says what was assumed of the model `name`; empty where nothing was).

    `answers` (images, K) to a few images; `labelled`: the data has a class for each image; `names` of classes known.
    """
    whose = f"{name}: does not say its task; its {words_of(shape)} output"
    if not is_single(shape) and ending != SIGMOID and is_unit(answers):
        return EMBEDDING, f"{whose} always has length 1: taken for an embedding; --task classification if it is not"
    if labelled:
        return CLASSES, ""
    if is_single(shape):
        return _of_one(whose, ending, names)
    if ending == SIGMOID:
        said = "ends in a Sigmoid: taken for labels that do not exclude each other"
        return MULTI_LABEL, f"{whose} {said}; --task classification if they do"
    why = "" if names else why_no_logits(answers, ending)
    return CLASSES, f"{whose} is taken for class scores, though {why}; --task regression if it is not" if why else ""


def _of_one(whose: str, ending: str, names: int) -> tuple[str, str]:
    if names == 2:
        return CLASSES, ""
    if ending == SIGMOID:
        return CLASSES, f"{whose} ends in a Sigmoid: taken for the score of two classes; --task regression if it is not"
    said = "is taken for a number; --task classification if it tells two classes apart"
    return REGRESSION, f"{whose} {said}"


def is_unit(answers: Array) -> bool:
    """Whether each row has length 1 and no row can be probabilities, of which one alone may be 1."""
    lengths = np.sqrt((answers.astype(np.float64) ** 2).sum(axis=1))
    return bool((np.abs(lengths - 1) < UNIT).all() and (np.abs(answers.sum(axis=1) - 1) > UNIT).all())


def why_no_logits(answers: Array, ending: str) -> str:
    """Why rows of `answers` do not look like logits or probabilities; empty where they do."""
    if not np.isfinite(answers).all() or answers.shape[1] < 2:
        return ""
    low, high = float(answers.min()), float(answers.max())
    if max(-low, high) > LARGEST_LOGIT:
        return f"it holds numbers from {low:.3g} to {high:.3g}"
    probabilities = low >= 0 and bool((np.abs(answers.sum(axis=1) - 1) < UNIT).all())
    if ending in ("Relu", "Clip") and not probabilities:
        return f"it ends in a {ending}"
    if low >= 0 and not probabilities and answers.shape[1] >= PLACES:
        mean, deviation = answers.mean(axis=0, dtype=np.float64), answers.std(axis=0, dtype=np.float64)
        if (deviation < mean / 2).all():
            return "its numbers stay near means of their own above 0, as coordinates do"
    return ""


def fits(labels: Array | None, shape: Sequence[object]) -> bool:
    """Whether `labels`, one for each image, are classes that an answer of `shape` can tell apart."""
    classes = class_count(shape)
    return labels is not None and classes is not None and bool(labels.max() < classes)


def not_used(name: str, task: str, shapes: Sequence[Sequence[object]]) -> str:
    """The line that the `task` stated for the model `name`, which answers with `shapes`, is not used."""
    told = [f"({', '.join(map(str, ('N', *shape[1:])))})" for shape in shapes]
    volume = " for volumes" if any(len(shape) == 5 for shape in shapes) else ""
    return (
        f"{name}: its task {task} is not used{volume}: it answers with "
        f"{' and '.join(told) or 'no tensor'}, and {WANTED[task]}; its answers stay numbers"
    )


def usable(name: str, task: str, shapes: Sequence[Sequence[object]]) -> tuple[str, str]:
    """(`task` where answers of `shapes` may be for it, else none; the line that says so): rows of scores are (N, K)."""
    if task not in WANTED:
        return task, ""
    fits = len(shapes) >= DETECTED if task == "detection" else any(SHAPED[task](shape[1:]) for shape in shapes)
    return (task, "") if fits else (OTHER, not_used(name, task, shapes))
