"""What a segmenter learns by: cross-entropy at each pixel, heavier for rare classes, and the overlap of each class.

    loss = sum w h / sum w + 1 - mean over classes c of D_c
    h    cross-entropy of a pixel          w    1 / sqrt(share of the pixels that have its class)
    D_c  2 sum p_c t_c / (sum p_c + sum t_c), p probabilities, t 1 where the mask says c

over all pixels of the batch that count; classes are those that the batch has. Where 98 % of the pixels are background,
the plain mean of h is low for an answer of background everywhere, and many networks stay there.

One map for two classes is a logit s, which is the scores (0, s), so that cross-entropy is the binary one; or, behind a
Sigmoid, a probability. Source: Milletari et al. 2016, "V-Net"; the sum of both: Isensee et al. 2021, nnU-Net; the
weights: docs/train-and-evaluate.md. Test: tests/test_pixel_loss.py.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from edgecnn.data.samples import IGNORE
from edgecnn.tasks.multi_label import ends_in_sigmoid


def pixel_loss(answer: torch.Tensor, masks: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Of an `answer` (N, classes, H, W), or (N, 1, H, W) for two classes, to `masks` int64 (N, H, W) with 255 for what
    counts for nothing. `smoothing` is of the cross-entropy alone.
    """
    if answer.shape[1] > 1 or not ends_in_sigmoid(answer):
        scores = answer if answer.shape[1] > 1 else torch.cat([torch.zeros_like(answer), answer], 1)
        missed = functional.cross_entropy(
            scores, masks, ignore_index=IGNORE, label_smoothing=smoothing, reduction="none"
        )
        shares = scores.softmax(1)
    else:
        wanted = (masks == 1).to(answer.dtype) * (1 - smoothing) + smoothing / 2
        missed = functional.binary_cross_entropy(answer[:, 0], wanted, reduction="none")
        shares = torch.cat([1 - answer, answer], 1)
    truth = (masks[:, None] == torch.arange(shares.shape[1])[:, None, None]).to(shares.dtype)
    weights = (truth / truth.sum((0, 2, 3)).clamp_min(1).sqrt()[:, None, None]).sum(1)
    mean = (missed * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    return mean + 1 - overlap(shares, truth)


def overlap(shares: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The mean of D_c of probabilities `shares` and `truth` of 0 and 1, both (N, classes, H, W); pixels of no class do
    not count.
    """
    area = truth.sum((0, 2, 3))
    given = (shares * truth.sum(1, keepdim=True)).sum((0, 2, 3))
    dice = 2 * (shares * truth).sum((0, 2, 3)) / (given + area).clamp_min(1)
    there = (area > 0).to(shares.dtype)
    return (dice * there).sum() / there.sum().clamp_min(1)
