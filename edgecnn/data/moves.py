"""Augmentation: pictures moved and mirrored, and their masks and boxes with them.

    shift   by up to 1/16 of the size in each direction, each image by its own step; the edge is repeated
    flip    left becomes right, for half of the images: x -> W - x for boxes

Signals (C, L) are shifted along their length, volumes (C, D, H, W) in three directions. A digit that is moved stays a
digit, while a mirrored 2 is none, so that flips are made only where the data allows them.
Source: Krizhevsky et al. 2012, section 4.1. Test: tests/test_moves.py.
"""

from __future__ import annotations

import numpy as np

from edgecnn.data.samples import Target
from runtimes.base import Array

SHARE = 16
MIN_LEFT = 0.25
"""A box of which the shift leaves less than this share in the picture is no longer asked for."""


def shifts(shape: tuple[int, ...], order: np.random.Generator) -> tuple[Array, ...]:
    """(down, right): for each of the images (N, C, H, W), the pixel that comes to row 0 and column 0; int (N,).

    One such array for each axis behind the channels.
    """
    return tuple(order.integers(-(size // SHARE), size // SHARE + 1, shape[0]) for size in shape[2:])


def flips(count: int, order: np.random.Generator) -> Array:
    """bool (N,): which images to mirror."""
    return order.integers(0, 2, count).astype(bool)


def shift_images(images: Array, *moves: Array) -> Array:
    """Images (N, C, H, W), or masks (N, H, W), moved along the last axes, each by one of `moves`; edges repeat."""
    if not moves:
        return images
    sizes = images.shape[-len(moves) :]
    places = [np.clip(np.arange(size) + move[:, None], 0, size - 1) for size, move in zip(sizes, moves, strict=True)]
    return np.stack([image[(..., *np.ix_(*at))] for image, *at in zip(images, *places, strict=True)])


def flip_images(images: Array, chosen: Array) -> Array:
    """The `chosen` of images (N, C, H, W), or masks (N, H, W), mirrored."""
    mirrored = images.copy()
    mirrored[chosen] = images[chosen][..., ::-1]
    return mirrored


def shift_target(target: Target, down: int, right: int, size: tuple[int, int]) -> Target:
    """The boxes after `shift_images` of an image of `size` (H, W), cut at its edge; those almost gone are left out."""
    height, width = size
    moved = target.boxes - np.array([right, down, right, down], np.float32)
    cut = np.clip(moved, 0, np.array([width, height, width, height], np.float32))
    kept = area(cut) >= MIN_LEFT * area(target.boxes)
    return target._replace(boxes=cut).only(kept)


def flip_target(target: Target, width: int) -> Target:
    x1, y1, x2, y2 = target.boxes.T
    return target._replace(boxes=np.stack([width - x2, y1, width - x1, y2], axis=1))


def area(boxes: Array) -> Array:
    """Pixels in each of boxes (n, 4); 0 where a side is not positive."""
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))
