"""A picture for each picture, as the answer to it: for super-resolution, denoising, colours, alpha.

    photos/images/a.jpg   photos/targets/a.png     x, y (N, H, W[, 1|3|4]) uint8 or uint16 in an .npz or in memory
    what the network sees what it should answer    y float: numbers as the network answers them

A target may have another size than its picture, and any ending. The folders may stand below train/ and val/ (or test/).
`Samples.pictures` are pixels uint8 (H, W[, C]), or numbers of the network; which are black and white:
runtimes/imaging/answered.py. Test: tests/test_pairs.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from edgecnn.data.annotated import IMAGES, Parts, folders, pictures
from edgecnn.data.folders import list_images
from edgecnn.data.images import read_image
from edgecnn.data.samples import Samples
from runtimes.base import Array, BadInput
from runtimes.imaging.answered import levels_of
from runtimes.imaging.arrays import Rows
from runtimes.imaging.depth import LEVELS, is_deep, levels
from runtimes.imaging.preprocess import Preprocess, to_channels
from runtimes.imaging.shown import finite
from runtimes.proof.answers import IMAGE

TARGETS = "targets"


def parts(root: Path, task: str) -> Parts | None:
    """The folder drawn above, or None."""
    return folders(root, lambda place: partial(_paired, place) if _is_paired(place) else None)


def _is_paired(root: Path) -> bool:
    return (root / IMAGES).is_dir() and (root / TARGETS).is_dir()


def _paired(root: Path, preprocess: Preprocess) -> Samples:
    """Pictures with their targets, found by name; raises `BadInput` where one is missing, or named twice."""
    files, held = list_images(root / IMAGES), dict[Path, Path]()
    if not files:
        raise BadInput(f"{root / IMAGES}: holds no images; put them there, and what they should become into {TARGETS}/")
    for target in list_images(root / TARGETS):
        stem = target.relative_to(root / TARGETS).with_suffix("")
        if stem in held:
            raise BadInput(f"{target}: is one of two targets of that name; keep one of them")
        held[stem] = target
    stems = [file.relative_to(root / IMAGES).with_suffix("") for file in files]
    missing = next((file for file, stem in zip(files, stems, strict=True) if stem not in held), None)
    if missing is not None:
        raise BadInput(f"{missing}: has no target; save what it should become in {root / TARGETS}, under its name")
    targets = [held[stem] for stem in stems]
    shown = pictures(str(root), files, preprocess, ())
    return replace(shown, pictures=Rows(len(files), lambda i: read_image(targets[i], preprocess.white)))


def paired(samples: Samples, task: str) -> Samples:
    """`samples` whose `truth` are the pictures that a network for the `task` should answer; others as they are."""
    rows = samples.truth
    if task != IMAGE or rows is None:
        return samples
    return replace(samples, truth=None, pictures=Rows(len(rows), lambda i: np.asarray(rows[i])))


def why_none(pictures: Sequence[Array]) -> str:
    """Why `pictures`, of which the first is looked at, are none; empty where they are."""
    first = pictures[0]
    sizes, pixels = list(first.shape), first.dtype == np.uint8 or is_deep(first.dtype)
    channels = (1, 3, 4) if pixels else (1, 3)
    ends = sizes[2:] if pixels else [*sizes[:1], *sizes[2:]]
    shaped = len(sizes) == 2 or (len(sizes) == 3 and any(end in channels for end in ends))
    if shaped and 0 not in sizes and (pixels or first.dtype.kind == "f"):
        return ""
    return f"y is {first.dtype} {sizes} for one picture; uint8 or uint16 (H, W[, 1, 3 or 4]) or float is needed"


def wanted(samples: Samples, index: int, channels: int | None = None) -> Array:
    """float32 (H, W, 1 or 3), 0 for black and 1 for white: what should be answered to one image, in so many `channels`.

    Raises `BadInput` for what is no picture.
    """
    assert samples.pictures is not None
    picture, ready = samples.pictures[index], samples.preprocess
    odd = why_none([picture])
    if odd:
        raise BadInput(f"{samples.ids[index]}: {odd}")
    if picture.dtype.kind == "f":
        finite(picture, f"{samples.ids[index]}: its target")
        found = levels_of(picture, ready)
    else:
        pixels = levels(picture, ready.white if ready is not None else None)
        count = channels or (1 if pixels.ndim == 2 or pixels.shape[2] == 1 else 3)
        found = to_channels(pixels, count).astype(np.float32) / np.float32(LEVELS)
        found = found[:, :, ::-1] if ready is not None and ready.bgr else found
    return found
