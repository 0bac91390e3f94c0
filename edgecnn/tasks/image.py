"""Pictures: structural similarity SSIM to the pictures that the data wants, with PSNR beside it.

    SSIM(x, y) = mean of (2 mx my + C1)(2 sxy + C2) / ((mx^2 + my^2 + C1)(sx^2 + sy^2 + C2))
    PSNR       = -10 log10(mean (x - y)^2) dB, of each picture alone; 100 where there is no difference

x and y are levels, 0 black and 1 white; what is answered beyond them is cut off, as it is in a picture. m, s and sxy
are means, deviations and covariance in a Gaussian window of 11x11 pixels and standard deviation 1.5, at every place
where it lies within the picture; C1 = 0.01^2, C2 = 0.03^2. The SSIM of colours is the mean of their channels', that of
a set the mean of its pictures'.
Source: Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality assessment: from error visibility to structural
similarity"; as scikit-image's `structural_similarity(gaussian_weights=True, use_sample_covariance=False)`.
Test: tests/test_task_image.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecnn.data.moves import flip_images, flips
from edgecnn.data.pairs import wanted, why_none
from edgecnn.data.samples import Feeds, Samples
from edgecnn.evaluation import scores
from edgecnn.evaluation.scores import Agreement, Difference, Score, words_of
from runtimes.base import Array, BadInput, Runner, Track, silent
from runtimes.imaging.answered import OwnSize, is_picture, levels_of, range_of
from runtimes.imaging.depth import LEVELS
from runtimes.imaging.preprocess import to_channels

if TYPE_CHECKING:
    import torch
    from torch import nn

METRIC = "SSIM"
RATE = 1.0
SMOOTHED = False
OUTPUTS = ("picture",)
WANTED = "give the pictures that it should answer in targets/ beside images/, or as y in an .npz"
WINDOW, DEVIATION = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
ALIKE_DB = 100.0


def has_answers(samples: Samples) -> bool:
    return not why_not(samples)


def why_not(samples: Samples, shape: Sequence[object] = ()) -> str:
    """Why `samples` have no pictures for an answer of `shape`; empty where they do. The first one is looked at."""
    if samples.pictures is None or not len(samples):
        return "there is no picture for each"
    odd = why_none(samples.pictures)
    if odd or not shape:
        return odd
    if not is_picture(shape[1:]):
        return f"the network answers {words_of(shape)}, no picture"
    high, wide = wanted(samples, 0).shape[:2]
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    if (high in sizes and wide in sizes) or len(sizes) < len(shape) - 1:
        return ""
    return (
        f"the first is {wide}x{high}, and the network answers {words_of(shape)}: cut them, and what it is shown, to fit"
    )


def require(samples: Samples) -> None:
    """Raise `BadInput` for samples without pictures."""
    odd = why_not(samples)
    if odd:
        raise BadInput(f"{samples.name}: {odd}; {WANTED}")


def score(runner: Runner, samples: Samples, input_name: str, batch: int = 32, track: Track = silent) -> Score:
    """SSIM of `runner` on `samples` with pictures; `details`: `psnr_db`, the mean over them."""
    require(samples)
    found: list[tuple[float, float]] = []
    for feed in track(samples.feeds(input_name, batch), "evaluating"):
        ((answer,),) = scores.answers(runner, [feed], OUTPUTS)
        fed = next(iter(feed.values())).shape
        for given in answer:
            found.append(likeness(given, samples, len(found), fed))
    each, decibels = (np.array(values) for values in zip(*found, strict=True))

    def resample(weights: Array) -> Array:
        return np.asarray(weights @ each / weights.sum(axis=1))

    details = {"psnr_db": float(decibels.mean())}
    return Score(METRIC, float(each.mean()), len(each), details, resample, each=each)


def likeness(given: Array, samples: Samples, index: int, fed: Sequence[int]) -> tuple[float, float]:
    """(SSIM, PSNR in dB) of what was `given` for one image of samples `fed` (N, ...); both 0 with NaN or infinity."""
    if not is_picture(given.shape):
        raise BadInput(f"output: is {list(given.shape)} for one image; SSIM needs (1 or 3, H, W)")
    ready = samples.preprocess
    answer = levels_of(given, ready)
    truth = wanted(samples, index, answer.shape[2])
    if isinstance(ready, OwnSize):
        answer = _trimmed(answer, truth.shape, fed[1:3] if ready.channels_last else fed[2:4], ready.steps)
    if answer.shape != truth.shape:
        have, want = (f"{picture.shape[1]}x{picture.shape[0]}" for picture in (truth, answer))
        seen = "" if ready is None else f" to {ready.size[1]}x{ready.size[0]}, which it is made,"
        way = "cut pictures and targets into pieces that fit; `evaluate` takes any size of a model of open size"
        raise BadInput(f"{samples.ids[index]}: its target is {have}, the answer{seen} is {want}; {way}")
    return (ssim(answer, truth), psnr(answer, truth)) if np.isfinite(answer).all() else (0.0, 0.0)


def _trimmed(answer: Array, size: Sequence[int], fed: Sequence[int], steps: int) -> Array:
    """`answer` without what padding up to whole `steps` made of it, where a picture of `size` is wanted."""
    more = [(have - want) * whole / have for have, want, whole in zip(answer.shape, size, fed, strict=False)]
    return answer[: size[0], : size[1]] if all(0 <= extra < steps for extra in more) else answer


def ssim(ours: Array, theirs: Array) -> float:
    """Mean structural similarity of two pictures (H, W, C) of levels; the window is as large as fits into them."""
    return float(np.mean([_of_plane(ours[:, :, i], theirs[:, :, i]) for i in range(ours.shape[2])]))


def _of_plane(ours: Array, theirs: Array) -> float:
    x, y = ours.astype(np.float64), theirs.astype(np.float64)
    mx, my = _windowed(x), _windowed(y)
    vx, vy, both = _windowed(x * x) - mx * mx, _windowed(y * y) - my * my, _windowed(x * y) - mx * my
    return float(np.mean((2 * mx * my + C1) * (2 * both + C2) / ((mx * mx + my * my + C1) * (vx + vy + C2))))


def _windowed(plane: Array) -> Array:
    """The weighted mean in the window at every place of `plane` (H, W) where it fits."""
    for axis in (0, 1):
        taps = min(WINDOW, plane.shape[axis])
        weights = np.exp(-0.5 * ((np.arange(taps) - (taps - 1) / 2) / DEVIATION) ** 2)
        count, moved = plane.shape[axis] - taps + 1, np.moveaxis(plane, axis, 0)
        mean = sum(w * moved[i : i + count] for i, w in enumerate(weights / weights.sum()))
        plane = np.moveaxis(np.asarray(mean), 0, axis)
    return plane


def psnr(ours: Array, theirs: Array) -> float:
    """
    >>> psnr(np.zeros((2, 2, 1)), np.full((2, 2, 1), 0.1)), psnr(np.ones((2, 2, 1)), np.ones((2, 2, 1)))
    (20.0, 100.0)
    """
    error = float(np.mean((ours.astype(np.float64) - theirs) ** 2))
    return min(ALIKE_DB, round(-10 * math.log10(error), 9)) if error else ALIKE_DB


def drop(reference: Score, candidate: Score, seed: int = 0, track: Track = silent) -> Difference:
    """SSIM lost by `candidate`, with the bootstrap interval over images."""
    return scores.bootstrap(reference, candidate, seed, track=track)


def agreement(reference: Runner, candidate: Runner, feeds: Feeds, track: Track = silent) -> Agreement:
    """SSIM of the pictures of both; one with NaN or infinity is like nothing."""
    ready, found = feeds.samples.preprocess, list[float]()
    for feed in track(feeds, "comparing"):
        ((a,),) = scores.answers(reference, [feed], OUTPUTS)
        ((b,),) = scores.answers(candidate, [feed], OUTPUTS)
        if a.shape != b.shape or not is_picture(a.shape[1:]):
            raise BadInput(f"output: is {list(a.shape)} against {list(b.shape)}; pictures of one size are needed")
        for ours, theirs in zip(a, b, strict=True):
            finite = np.isfinite(ours).all() and np.isfinite(theirs).all()
            found.append(ssim(levels_of(ours, ready), levels_of(theirs, ready)) if finite else 0.0)
    return Agreement(float(np.mean(found)), len(found), 0.0)


# ------------------------------------------------------------------------------------------------------------- learning
class Wanted(NamedTuple):
    """What is to be learned: `levels` float32 (n, H, W, C), and the network's numbers for `black` and `white`."""

    levels: Array
    black: float
    white: float


def answers(samples: Samples, picked: Array) -> Wanted:
    levels = [wanted(samples, int(i)) for i in picked]
    odd = next((int(i) for i, one in zip(picked, levels, strict=True) if one.shape != levels[0].shape), None)
    if odd is not None:
        raise BadInput(f"{samples.ids[odd]}: its target is not as large as the others; cut all to one size to train")
    return Wanted(np.stack(levels), *range_of(samples.preprocess))


def augment(images: Array, wanted: Wanted, order: np.random.Generator, flip: bool) -> tuple[Array, Wanted]:
    """Images in their place, for targets may have another size; with `flip` half of them and their targets mirrored."""
    if not flip:
        return images, wanted
    chosen, levels = flips(len(images), order), wanted.levels.copy()
    levels[chosen] = levels[chosen][:, :, ::-1]
    return flip_images(images, chosen), wanted._replace(levels=levels)


def loss(module: nn.Module, images: torch.Tensor, wanted: Wanted, smoothing: float) -> torch.Tensor:
    """Mean absolute error of the levels, those beyond black and white too; nothing is smoothed."""
    import torch

    answer = module(images)
    answer = answer[:, None] if answer.ndim == 3 else answer  # grey, (N, H, W)
    planes = [to_channels(one * np.float32(LEVELS), answer.shape[1]) / np.float32(LEVELS) for one in wanted.levels]
    target = torch.from_numpy(np.stack(planes).transpose(0, 3, 1, 2).copy())
    result: torch.Tensor = ((answer - wanted.black) / (wanted.white - wanted.black) - target).abs().mean()
    return result
