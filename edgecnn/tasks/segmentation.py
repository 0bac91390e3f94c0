"""One class for each pixel: mean intersection over union.

    IoU_c = |truth = c and answer = c| / |truth = c or answer = c|          over all pixels of all images
    mIoU  = mean of IoU_c over the classes that occur in the truth or in an answer

The answer is the largest of `logits` (N, classes, H, W) at a pixel, the first one of equals, as a device would take it;
scores may be last, or an answer the classes themselves (runtimes/imaging/maps.py), and of fewer pixels than the mask
has, each standing for all that lie in it. A pixel with NaN or infinity has no
class and counts against all. Pixels whose truth is 255 count for nothing. Without labels two networks agree by how far
their masks overlap (evaluation/overlap.py).
Source: Everingham et al. 2015, PASCAL VOC; Long et al. 2015, section 5. Test: tests/test_task_segmentation.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.data.moves import flip_images, flips, shift_images, shifts
from edgecnn.data.samples import IGNORE, Samples
from edgecnn.evaluation import scores
from edgecnn.evaluation.overlap import Overlap
from edgecnn.evaluation.scores import Agreement, Difference, Score, mean_of_known
from runtimes.base import Array, BadInput, Runner, Tensors, Track, silent
from runtimes.imaging.geometry import nearest
from runtimes.imaging.maps import MOST, Seen, classes_of, count_of, is_map, is_whole

if TYPE_CHECKING:
    import torch
    from torch import nn

METRIC = "mIoU"
RATE = 1.0
SMOOTHED = True
OUTPUTS = ("logits",)
AS_USUAL = Seen()
WANTED = "give images/ and masks/ with PNGs of class indices, a folder as PASCAL VOC has it, or x and masks in an .npz"


def has_answers(samples: Samples) -> bool:
    return samples.masks is not None


def score(runner: Runner, samples: Samples, input_name: str, batch: int = 32, track: Track = silent) -> Score:
    """mIoU of `runner` on `samples` with masks; `details`: `pixel_accuracy`, `iou` by class (None: does not occur)."""
    if samples.masks is None:
        raise BadInput(f"{samples.name}: has no masks; {WANTED}")
    both, truth, answer = counts_of(runner, samples, track(samples.feeds(input_name, batch), "evaluating"))

    pixels = [counts.astype(np.float64) for counts in (both, truth, answer)]

    def resample(weights: Array) -> Array:
        weights = weights.astype(np.float64)  # of whole numbers the products would be ten times as slow
        return mean_of_known(iou(*(weights @ counts for counts in pixels)))

    by_class = iou(both.sum(0), truth.sum(0), answer.sum(0))
    if np.isnan(by_class).all():
        raise BadInput(f"{samples.name}: every pixel is 255 (not to be looked at); check the masks")
    names = (*samples.class_names, *map(str, range(len(samples.class_names), len(by_class))))
    details = {
        "pixel_accuracy": float(both.sum() / truth.sum()),
        "iou": {n: None if np.isnan(v) else float(v) for n, v in zip(names, by_class, strict=False)},
    }
    missed = tuple(n for n, b, t in zip(names, both.sum(0), truth.sum(0), strict=False) if t and not b)
    alone = mean_of_known(iou(both, truth, answer))
    return Score(METRIC, float(np.nanmean(by_class)), len(both), details, resample, missed=missed, each=alone)


def counts_of(runner: Runner, samples: Samples, feeds: Any) -> tuple[Array, Array, Array]:
    """(both, truth, answer), each int64 (N, classes): pixels of a class in both, in the mask, and in the answer."""
    assert samples.masks is not None
    found: list[tuple[Array, Array, Array]] = []
    for feed in feeds:
        ((answer,),) = scores.answers(runner, [feed], OUTPUTS)
        for given in answer:
            found.append(counts(given, samples.masks[len(found)], samples.ids[len(found)], seen_in(feed)))
    both, truth, given = (np.stack(part) for part in zip(*found, strict=True))
    occur = np.flatnonzero((truth + given).sum(0))
    most = both.shape[1] if both.shape[1] < MOST else max(len(samples.class_names), occur.max(initial=0) + 1)
    return both[:, :most], truth[:, :most], given[:, :most]


def seen_in(feed: Tensors) -> Seen:
    """The pictures of a batch, as the network sees them."""
    return Seen.of(next(iter(feed.values())).shape[1:])


def counts(answer: Array, mask: Array, name: str = "image", seen: Seen = AS_USUAL) -> tuple[Array, Array, Array]:
    """The three counts of one image from an answer (classes, H, W), or in another layout (runtimes/imaging/maps.py),
    and its mask (H, W), which is `name`'s.
    """
    whole = is_whole(answer.dtype)
    pixels = classes_of(answer, seen) if is_map(answer.shape, whole) else answer
    if not _is_same_view(pixels.shape, mask.shape):
        size = f"{mask.shape[0]}, {mask.shape[1]}"
        raise BadInput(
            f"output: is {list(answer.shape)} for one image; mIoU needs (classes, {size}) or ({size}, classes), or "
            "fewer pixels in that proportion; let forward resize it"
        )
    rows, columns = (nearest(np.arange(want), own, want) for own, want in zip(pixels.shape, mask.shape, strict=True))
    pixels = pixels[rows[:, None], columns]
    classes, looked = count_of(answer.shape, whole, seen) or MOST, mask != IGNORE
    wanted, given = mask[looked].astype(np.int64), pixels[looked]
    given = np.where((given < 0) | (given >= classes), classes, given)  # of no class
    if wanted.size and wanted.max() >= classes:
        raise BadInput(
            f"{name}: its mask has class {wanted.max()}, unknown to a network with {classes}; check the data"
        )
    both = np.bincount(wanted[wanted == given], minlength=classes)
    return both, np.bincount(wanted, minlength=classes), np.bincount(given, minlength=classes + 1)[:classes]


def _is_same_view(pixels: Sequence[int], mask: Sequence[int]) -> bool:
    """Whether `pixels` are as many as the `mask` has, or fewer in its proportion, which `run` enlarges, too."""
    return len(pixels) == 2 and pixels[0] <= mask[0] and pixels[0] * mask[1] == pixels[1] * mask[0]


def iou(both: Array, truth: Array, answer: Array) -> Array:
    """Intersection over union of pixel counts; NaN for what occurs on neither side."""
    union = truth + answer - both
    return np.asarray(np.divide(both, union, out=np.full(union.shape, np.nan), where=union > 0))


def drop(reference: Score, candidate: Score, seed: int = 0, track: Track = silent) -> Difference:
    """mIoU lost by `candidate`, with the bootstrap interval over images."""
    return scores.bootstrap(reference, candidate, seed, track=track)


def agreement(reference: Runner, candidate: Runner, feeds: Sequence[Tensors], track: Track = silent) -> Agreement:
    """By how much the masks overlap, and the share of pixels that changed; NaN and infinity agree with nothing."""
    found, images = Overlap(), 0
    for feed in track(feeds, "comparing"):
        ((a,),) = scores.answers(reference, [feed], OUTPUTS)
        ((b,),) = scores.answers(candidate, [feed], OUTPUTS)
        if a.shape != b.shape or not is_map(a.shape[1:], is_whole(a.dtype)):
            raise BadInput(f"output: is {list(a.shape)} against {list(b.shape)}; masks of one size are needed")
        for ours, theirs in zip(a, b, strict=True):
            found.add(classes_of(ours, seen_in(feed)), classes_of(theirs, seen_in(feed)))
            images += 1
    return Agreement(found.share, images, 1 - found.same / found.pixels)


# ------------------------------------------------------------------------------------------------------------- learning
def answers(samples: Samples, picked: Array) -> Array:
    assert samples.masks is not None
    return np.stack([samples.masks[int(i)] for i in picked])


def augment(images: Array, masks: Array, order: np.random.Generator, flip: bool) -> tuple[Array, Array]:
    """Images and masks moved together by up to 1/16 of their size and, where `flip` allows, half of them mirrored."""
    moves = shifts(images.shape, order)
    images, masks = shift_images(images, *moves), shift_images(masks, *moves)
    if not flip:
        return images, masks
    chosen = flips(len(images), order)
    return flip_images(images, chosen), flip_images(masks, chosen)


def loss(module: nn.Module, images: torch.Tensor, masks: Array, smoothing: float) -> torch.Tensor:
    """Cross-entropy and overlap of all pixels that count (edgecnn/training/pixel_loss.py)."""
    import torch

    from edgecnn.training.pixel_loss import pixel_loss

    return pixel_loss(module(images), torch.from_numpy(masks.astype(np.int64)), smoothing)
