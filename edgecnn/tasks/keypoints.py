"""Points of one subject a picture, landmarks or a pose: the share that is found, PCK, with the mean error beside it.

    e_ik  =  |found - true point k of image i| / size_i      size: longer side of the box around the true points
    PCK   =  mean over t = 0.01, 0.02 ... 0.1 of the share of all points with e <= t
    NME   =  mean of e over all points

Both in pixels of the picture that was given, whatever was made of it. True points are (x, y), or (x, y, visible): those
whose third number is 0, and those that the network is not shown, do not count. Of one point alone the size is that of
the longer side of the picture. NaN or infinity is found nowhere, and counts as 1 in the mean error.
Source: Yang & Ramanan 2013, "Articulated Human Detection with Flexible Mixtures of Parts", whose one tolerance sees no
points move that stay within it; averaged as COCO averages its own. Test: tests/test_task_keypoints.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgecnn.data.moves import shift_images, shifts
from edgecnn.data.samples import Feeds, Samples
from edgecnn.evaluation import scores
from edgecnn.evaluation.scores import Agreement, Difference, Score, words_of
from runtimes.base import Array, BadInput, Runner, Tensors, Track, silent
from runtimes.imaging.geometry import Geometry
from runtimes.imaging.keypoints import count_of_points, is_points, points_of
from runtimes.imaging.maps import Seen

if TYPE_CHECKING:
    import torch
    from torch import nn

METRIC = "PCK"
RATE = 0.5
SMOOTHED = False
OUTPUTS = ("points",)
WANTED = "give a labels.csv beside the pictures (a header, then file and x0,y0,x1,...), or y (N, K, 2) in an .npz"
TOLERANCES = np.arange(1, 11) / 100
"""Shares of the subject's size."""
LARGEST = "pck_10"
MOST_NAMED = 64
"""Points that have a PCK each in the report."""
HALF_CELL = 0.5
"""Of a heatmap: the step in which points are read, so that it says nothing of two networks."""
WIDTH, BETA = 1 / 32, 0.1
"""Standard deviation of what is learned, in heights of the heatmap; from where smooth L1 is straight, in shares."""


def has_answers(samples: Samples) -> bool:
    return not why_not(samples)


def why_not(samples: Samples, shape: Sequence[object] = ()) -> str:
    """Why the rows of `samples.truth` are no points for an answer of `shape`; empty where they are."""
    y = samples.truth
    if y is None:
        return "there is no y"
    held = f"y is {y.dtype} {list(y.shape)}"
    rows = y.ndim == 2 and (y.shape[1] % 2 == 0 or y.shape[1] % 3 == 0)
    if y.dtype.kind not in "fiu" or not (rows or (y.ndim == 3 and y.shape[2] in (2, 3))) or not y.size:
        return f"{held}; points are (N, K, 2) as x and y, (N, K, 3) with a 0 where one is not known, or rows of these"
    if odd := scores.not_finite(y, samples.ids):
        return f"y is NaN or infinite for {odd}; a third number for each point, 0, says that it is not known"
    if not shape:
        return ""
    if not is_points(shape[1:]):
        return f"the network answers {words_of(shape)}, no points: (N, K, h, w), (N, 2 K) or (N, K, 2)"
    ready = samples.preprocess
    count = count_of_points(shape[1:], Seen() if ready is None else Seen(ready.size, ready.channels_last))
    fits = y.shape[1] == count if y.ndim == 3 else count and y.shape[1] in (2 * count, 3 * count)
    return "" if count is None or fits else f"{held}, and the network answers {count} points, {words_of(shape)}"


def require(samples: Samples) -> None:
    """Raise `BadInput` for samples without points."""
    odd = why_not(samples)
    if odd:
        raise BadInput(f"{samples.name}: {odd}; {WANTED}" if samples.truth is None else f"{samples.name}: {odd}")


class Truth(NamedTuple):
    """Of one image: `points` float64 (K, 2) in its pixels, bool (K,) those `known`, and the `size` of the subject."""

    points: Array
    known: Array
    size: float


def truth_of(samples: Samples, index: int, count: int, geometry: Geometry) -> Truth:
    """The `count` true points of one image; those of which the network sees nothing are not known."""
    assert samples.truth is not None
    rows = samples.truth[index].reshape(count, -1).astype(np.float64)
    points, known = rows[:, :2], rows[:, 2] > 0 if rows.shape[1] == 3 else np.ones(count, bool)
    inside = geometry.points_to_input(points)
    shown = ((inside >= 0) & (inside <= geometry.size[::-1])).all(axis=1)
    return Truth(points, known & shown, extent(points[known], geometry.image))


def extent(points: Array, sides: Sequence[int]) -> float:
    """The longer side of the box around `points` (n, 2); of a picture of `sides` where they are in one place."""
    return float(np.ptp(points, axis=0).max(initial=0)) if len(points) and np.ptp(points, axis=0).any() else max(sides)


def geometry_of(samples: Samples, index: int, seen: Seen) -> Geometry:
    """Of one image, which the network has `seen` like that."""
    high, wide = seen.sides
    if not isinstance(high, int) or not isinstance(wide, int):
        raise BadInput(f"{samples.name}: is of no pictures, which points could lie in; give --task regression")
    if samples.size_of is None or samples.preprocess is None:
        return Geometry.same((high, wide))
    return Geometry.of(samples.preprocess, samples.size_of(index))


def found_in(samples: Samples, feed: Tensors, answer: Array) -> Iterator[tuple[Array, Seen]]:
    """(float64 (K, 2) in pixels of the input, what the network saw) for each row of an `answer` to `feed`."""
    ready, seen = samples.preprocess, Seen.of(next(iter(feed.values())).shape[1:])
    for row in answer:
        yield points_of(row, seen, ready.answer_range if ready is not None else None)[:, :2], seen


def score(runner: Runner, samples: Samples, input_name: str, batch: int = 32, track: Track = silent) -> Score:
    """PCK of `runner` on `samples` with points; `details`: `nme`, `pck_10` with the largest tolerance alone, and where
    points are few `pck` of each (None: known in no image).
    """
    require(samples)
    found: list[Array] = []
    for feed in track(samples.feeds(input_name, batch), "evaluating"):
        ((answer,),) = scores.answers(runner, [feed], OUTPUTS)
        odd = why_not(samples, ("N", *answer.shape[1:]))
        if odd:
            raise BadInput(f"{samples.name}: {odd}")
        for points, seen in found_in(samples, feed, answer):
            found.append(errors(points, samples, len(found), seen))
    apart = np.stack(found)
    known = ~np.isnan(apart)
    if not known.any():
        raise BadInput(f"{samples.name}: has no point that is known and that the network sees; nothing can be scored")
    near = shares_near(apart)
    hits, counts = np.where(known, near, 0).sum(axis=1), known.sum(axis=1)

    def resample(weights: Array) -> Array:
        weights = weights.astype(np.float64)
        total = weights @ counts
        return np.asarray(np.divide(weights @ hits, total, out=np.full(len(total), np.nan), where=total > 0))

    large = float((apart[known] <= TOLERANCES[-1]).mean())
    details: dict[str, Any] = {"nme": float(apart[known].mean()), LARGEST: large, **by_point(samples, near, known)}
    each = np.divide(hits, counts, out=np.full(len(hits), np.nan), where=counts > 0)
    return Score(METRIC, float(hits.sum() / counts.sum()), len(apart), details, resample, each=each)


def errors(points: Array, samples: Samples, index: int, seen: Seen) -> Array:
    """(K,): how far `points` of the input are from the true ones, in sizes of the subject; NaN where one is unknown."""
    geometry = geometry_of(samples, index, seen)
    truth = truth_of(samples, index, len(points), geometry)
    apart = np.linalg.norm(geometry.points_to_image(points) - truth.points, axis=1) / truth.size
    return np.where(truth.known, np.where(np.isfinite(apart), apart, 1.0), np.nan)


def shares_near(apart: Array) -> Array:
    """Of each error in `apart` the share of tolerances that it is within."""
    return np.asarray((apart[..., None] <= TOLERANCES + 1e-9).mean(axis=-1))


def by_point(samples: Samples, near: Array, known: Array) -> dict[str, Any]:
    """PCK of each point by its name; empty for one, which needs none, and for many."""
    count = known.shape[1]
    if not 1 < count <= MOST_NAMED:
        return {}
    names = samples.class_names if len(samples.class_names) == count else tuple(map(str, range(count)))
    means = [float(near[mask, k].mean()) if mask.any() else None for k, mask in enumerate(known.T)]
    return {"pck": dict(zip(names, means, strict=True))}


def drop(reference: Score, candidate: Score, seed: int = 0, track: Track = silent) -> Difference:
    """PCK lost by `candidate`, with the bootstrap interval over images."""
    return scores.bootstrap(reference, candidate, seed, track=track)


def agreement(reference: Runner, candidate: Runner, feeds: Feeds, track: Track = silent) -> Agreement:
    """PCK with the points of `reference` for the true ones, in pixels of the input; half a cell of a heatmap either way
    is no difference.
    """
    samples, shares = feeds.samples, list[float]()
    for feed in track(feeds, "comparing"):
        ((a,),) = scores.answers(reference, [feed], OUTPUTS)
        ((b,),) = scores.answers(candidate, [feed], OUTPUTS)
        if a.shape != b.shape or not is_points(a.shape[1:]):
            raise BadInput(f"output: is {list(a.shape)} against {list(b.shape)}; points of as many are needed")
        for (theirs, seen), (ours, _) in zip(found_in(samples, feed, a), found_in(samples, feed, b), strict=True):
            sides = [side for side in seen.sides if isinstance(side, int)]
            step = HALF_CELL * max(sides) / max(a.shape[2:]) if a.ndim == 4 else 0.0
            apart = np.linalg.norm(np.maximum(np.abs(ours - theirs) - step, 0), axis=1) / extent(theirs, sides)
            shares.append(float(shares_near(np.where(np.isfinite(apart), apart, 1.0)).mean()))
    return Agreement(float(np.mean(shares)), len(shares), 0.0)


# ------------------------------------------------------------------------------------------------------------- learning
class Wanted(NamedTuple):
    """What is to be learned: `rows` (n, ...) of the truth; `scale` and `cut` (n, 1, 2), which make them pixels of the
    input; and for coordinates the numbers at the `ends` of the input.
    """

    rows: Array
    scale: Array
    cut: Array
    ends: tuple[float, float]


def answers(samples: Samples, picked: Array) -> Wanted:
    assert samples.truth is not None
    seen = Seen.of(samples[int(picked[0])].shape)
    origin, unit = np.zeros((1, 2)), np.ones((1, 2))
    places = [geometry_of(samples, int(i), seen) for i in picked]
    cut = np.stack([-place.points_to_input(origin) for place in places])
    scale = np.stack([place.points_to_input(unit) for place in places]) + cut
    ready = samples.preprocess
    ends = ready.answer_range if ready is not None and ready.answer_range is not None else (0.0, 1.0)
    return Wanted(samples.truth[picked], scale, cut, ends)


def augment(images: Array, wanted: Wanted, order: np.random.Generator, flip: bool) -> tuple[Array, Wanted]:
    """Images and their points shifted together; mirrored, a left eye would have to become a right one."""
    if flip:
        raise BadInput("training: --flip: left and right points would be in each other's place; leave it out")
    down, right = shifts(images.shape, order)
    return shift_images(images, down, right), wanted._replace(cut=wanted.cut + np.stack([right, down], 1)[:, None])


def loss(module: nn.Module, images: torch.Tensor, wanted: Wanted, smoothing: float) -> torch.Tensor:
    """Of heatmaps the squared error to Gaussians, its mean under these and its mean beside them, where nearly all cells
    are; of coordinates smooth L1, in shares of the input. Nothing is smoothed, and points that are not known, or not
    in the picture, are not learned.
    """
    import torch

    answer = module(images)
    sides = torch.tensor(images.shape[:1:-1], dtype=torch.float32)
    count = answer.shape[1] // 2 if answer.ndim == 2 else answer.shape[1]
    rows = wanted.rows.reshape(len(images), count, -1)
    places = torch.from_numpy((rows[..., :2] * wanted.scale - wanted.cut).astype(np.float32)) / sides
    known = ((places >= 0) & (places <= 1)).all(-1).float()
    if rows.shape[2] == 3:
        known = known * torch.from_numpy((rows[..., 2] > 0).astype(np.float32))
    if answer.ndim == 4:
        target, known = _gaussians(places, answer.shape[2:]), known[..., None, None]
        apart, peaks, ground = (answer - target) ** 2, known * target, known * (1 - target)
        lost = sum((apart * weight).sum() / weight.sum().clamp(min=1e-6) for weight in (peaks, ground))
    else:
        shares = (answer.reshape(len(images), count, 2) - wanted.ends[0]) / (wanted.ends[1] - wanted.ends[0])
        each = torch.nn.functional.smooth_l1_loss(shares, places, beta=BETA, reduction="none").sum(-1)
        lost = (each * known).sum() / known.sum().clamp(min=1)
    result: torch.Tensor = lost
    return result


def _gaussians(places: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(n, K, h, w) of `size` (h, w): 1 at each of `places` (n, K, 2), shares of the width and height."""
    import torch

    high, wide = size
    width = max(1.0, WIDTH * high)
    x = (torch.arange(wide) - places[..., :1] * wide) / width
    y = (torch.arange(high) - places[..., 1:] * high) / width
    return torch.exp(-0.5 * (y.square()[..., :, None] + x.square()[..., None, :]))
