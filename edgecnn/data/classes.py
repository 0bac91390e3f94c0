"""Classes that come as whole numbers, one a sample, beside the arrays that they belong to.

Test: tests/test_data.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgecnn.data.samples import Samples
from runtimes.base import Array, BadInput, counted
from runtimes.comparing.two_classes import class_count, is_one_score, is_single
from runtimes.execution.feeds import TensorInfo
from runtimes.imaging.maps import Seen, count_of, is_whole
from runtimes.proof.answers import IMAGE, KEYPOINTS, MULTI_LABEL, REGRESSION

MAX_LABEL = 999_999
LABELS = ("y", "labels")
"""Names of the labels in an `.npz`; the first that is there counts."""


def labels_in(arrays: Mapping[str, Array]) -> Array | None:
    return next((arrays[name] for name in LABELS if name in arrays), None)


def classes_told_apart(output: TensorInfo, picture: TensorInfo) -> int | None:
    """How many classes `output` tells apart in a `picture` or in its pixels, where that is known."""
    shape, whole = output.shape, is_whole(output.dtype)
    if len(shape) in (3, 4) and (whole or not is_single(shape)):
        return count_of(shape[1:], whole, Seen.of(picture.shape[1:]))
    return class_count(shape)


def counted_alike(samples: Samples, shape: Sequence[object], classes: int | None = None) -> bool:
    """Whether an answer of `shape` has as many classes as the data, which need not show the last of those that are only
    numbered, nor both that one score tells apart.
    """
    known, count = len(samples.class_names), classes or class_count(shape)
    few = known < 2 if is_single(shape) else samples.numbered and count is not None and known < count
    return known == count or few


def refuse_from_one(samples: Samples, classes: int | None) -> None:
    """Raise `BadInput` for whole numbers that plainly count `classes` from 1."""
    labels = samples.labels
    if samples.numbered and labels is not None and classes and classes == labels.max() and labels.min() > 0:
        found, wanted = f"labels go from {labels.min()} to {classes}", f"the model's {classes} classes from 0"
        raise BadInput(f"{samples.name}: {found}, {wanted} to {classes - 1}; where labels begin at 1 give y - 1")


def whose_classes(samples: Samples, model: str, shape: Sequence[object], classes: int | None = None) -> str:
    """The beginning of a refusal of classes that an answer of `shape` does not have."""
    have = counted(len(samples.class_names), "class", "classes")
    if is_one_score(shape):
        return f"{samples.name}: has {have}, {model} one score, which tells two apart"
    return f"{samples.name}: has {have}, {model} {classes or class_count(shape)}, which it does not name"


def answered(samples: Samples, answers: Array | None, as_truth: bool | None) -> Samples:
    """`samples` with their `answers`: classes, or `as_truth` rows of numbers that are no classes; None: what fits."""
    if answers is None:
        return samples
    if answers.ndim and len(answers) != len(samples):
        raise BadInput(f"{samples.name}: y has {counted(len(answers), 'row')}, x has {len(samples)}; give one for each")
    if as_truth is False or (as_truth is None and answers.dtype.kind in "biu" and answers[:1].size == 1):
        return labelled(samples, answers)
    if not answers.ndim:
        raise BadInput(f"{samples.name}: y is {answers.dtype} {list(answers.shape)}; give a row for each image")
    return replace(samples, truth=answers)


def _other_task(y: Array) -> str:
    flags = y.ndim == 2 and bool(((y == 0) | (y == 1)).all())
    many = KEYPOINTS if y.ndim == 3 and y.shape[2] in (2, 3) else IMAGE
    return f"--task {MULTI_LABEL if flags else many if y.ndim > 2 else REGRESSION}"


def labelled(samples: Samples, labels: Array) -> Samples:
    """`samples` with a class for each, False and True are 0 and 1; raises `BadInput` for what are no classes."""
    if labels.dtype.kind == "U":
        how = "give whole numbers, or judge by a function of yours: --metric FILE.py:NAME"
        raise BadInput(f"{samples.name}: labels are text; {how}")
    labels = labels[:, 0] if labels.shape == (len(samples), 1) else labels
    labels = labels.astype(np.int64) if labels.dtype.kind == "b" else labels
    if labels.shape != (len(samples),) or labels.dtype.kind not in "iu":
        what = f"{labels.dtype} {list(labels.shape)}"
        raise BadInput(
            f"{samples.name}: labels are {what}; one whole number from 0 to {MAX_LABEL:,} for each image is needed; "
            f"{_other_task(labels)} reads what is in y, or a function of yours judges by it: --metric FILE.py:NAME"
        )
    beyond = np.flatnonzero((labels < 0) | (labels > MAX_LABEL))
    if len(beyond):
        row = int(beyond[0])
        raise BadInput(
            f"{samples.name}: label {labels[row]} at row {row}; classes are whole numbers from 0 to {MAX_LABEL:,}"
        )
    names = tuple(str(i) for i in range(int(labels.max()) + 1))
    known = samples.class_names
    return replace(samples, labels=labels.astype(np.int64), class_names=known or names, numbered=not known)
