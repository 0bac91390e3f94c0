"""Outputs that are lists: which of them hold detections or rows of indices, in whichever form a model gives them.

    boxes (M, 4), scores (M,), labels (M,)[, image (M,)]                          as PyTorch's detectors name them
    num (N,), boxes (N, M, 4), scores (N, M), labels (N, M)                       padded, as NMS plug-ins give them
    rows (M, k) of integers, M not the batch                                      NonMaxSuppression, NonZero

The order of such a list is an accident of the last digit of a score; `matching` pairs detections, and rows of integers
are the same where they are equal, wherever they stand. Test: tests/test_listed.py.
"""

from __future__ import annotations

import numpy as np

from runtimes.base import Array, Tensors
from runtimes.comparing import matching

WORDS = {"boxes": ("box",), "scores": ("score", "conf"), "labels": ("label", "class", "cls"), "num": ("num", "count")}


def detections(outputs: Tensors) -> dict[str, Array] | None:
    """`outputs` as the four tensors of `matching.NAMES`; None when they are no detections."""
    if matching.is_detections(outputs):
        return dict(outputs)
    found = {word: value for name, value in outputs.items() if (word := _word(name)) is not None}
    if len(found) != len(outputs):
        return None
    flat = _unpadded(found) if set(found) == set(WORDS) else found
    if flat is None or set(flat) - {"image"} != {"boxes", "scores", "labels"}:
        return None
    made = {"image": np.zeros(len(flat["scores"]) if flat["scores"].ndim else 0, np.int64), **flat}
    return made if matching.is_detections(made) else None


def both(ours: Tensors, theirs: Tensors) -> tuple[dict[str, Array], dict[str, Array]] | None:
    """Both as detections, where both are: one whose outputs have names of their own takes the other's, by place."""
    if len(ours) == len(theirs) and set(ours) != set(theirs):
        if detections(ours) is None:
            ours = dict(zip(theirs, ours.values(), strict=True))
        elif detections(theirs) is None:
            theirs = dict(zip(ours, theirs.values(), strict=True))
    left, right = detections(ours), detections(theirs)
    return None if left is None or right is None else (left, right)


def _word(name: str) -> str | None:
    """What an output's name says that it holds.

    >>> _word("det_boxes"), _word("num_dets"), _word("logits")
    ('boxes', 'num', None)
    """
    small = name.lower()
    return next((word for word in ("num", "boxes", "scores", "labels") if any(w in small for w in WORDS[word])), None)


def _unpadded(found: Tensors) -> dict[str, Array] | None:
    """The first `num` rows of each image; None where the shapes are others."""
    counts, boxes = found["num"].ravel(), found["boxes"]
    if boxes.ndim != 3 or any(found[n].shape != boxes.shape[:2] for n in ("scores", "labels")):
        return None
    if len(counts) != len(boxes) or counts.dtype.kind not in "iu":
        return None
    kept = np.arange(boxes.shape[1])[None] < counts[:, None]
    flat = {name: found[name][kept] for name in ("boxes", "scores", "labels")}
    return {**flat, "image": np.nonzero(kept)[0]}


def is_rows(ours: Array, theirs: Array, batch: int) -> bool:
    """Whether both are lists of integer rows: not one row an image."""
    sides = (ours, theirs)
    return all(v.ndim == 2 and v.dtype.kind in "iu" for v in sides) and (
        ours.shape[1] == theirs.shape[1] and any(len(v) != batch for v in sides)
    )


def align_rows(ours: Array, theirs: Array) -> tuple[Array, Array]:
    """Both with equal rows beside each other, first; then what is left, beside each other or zeros.

    >>> a, b = align_rows(np.array([[1, 2], [3, 4]]), np.array([[3, 4], [1, 2], [5, 6]]))
    >>> a.tolist(), b.tolist()
    ([[1, 2], [3, 4], [0, 0]], [[1, 2], [3, 4], [5, 6]])
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for j, row in enumerate(theirs.tolist()):
        places.setdefault(tuple(row), []).append(j)
    pairs = [(i, places[key].pop(0)) for i, row in enumerate(ours.tolist()) if places.get(key := tuple(row))]
    left = [i for i, _ in pairs] + sorted(set(range(len(ours))) - {i for i, _ in pairs})
    right = [j for _, j in pairs] + sorted(set(range(len(theirs))) - {j for _, j in pairs})
    most = max(len(left), len(right))
    sides = [
        np.concatenate([value[rows], np.zeros((most - len(rows), value.shape[1]), value.dtype)])
        for value, rows in ((ours, left), (theirs, right))
    ]
    return sides[0], sides[1]
