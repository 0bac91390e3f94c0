"""Predictions as pictures: a mask as a palette PNG of class indices, and the image with mask or boxes drawn over it.

    NAME.mask.png       the class of each pixel, as a training mask holds it; colours are only shown
    NAME.overlay.png    the image under the mask, or with its boxes

Colours are PASCAL VOC's: bit k of a class's number, from the lowest, goes in turn to red, green and blue, from the
highest bit down. Pillow draws; where it is missing, `check_folder` says so. Test: tests/test_pictures.py.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtimes.answers import AnyPrediction, BoxesPrediction, MaskPrediction
from runtimes.base import Array, BadInput, Unavailable
from runtimes.files import check_output, replace_whole
from runtimes.images import has_pillow

if TYPE_CHECKING:
    from PIL import Image

WEIGHT = 0.5
"""Of the colour over the image."""


def colours() -> Array:
    """uint8 (256, 3).

    >>> colours()[[0, 1, 2, 3]].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    index, found = np.arange(256), np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            found[:, channel] |= (((index >> (3 * (bit // 3) + channel)) & 1) << (7 - bit // 3)).astype(np.uint8)
    return found


def files_for(folder: Path, names: Iterable[str], task: str) -> list[tuple[Path, ...]]:
    """Where the pictures of each input go; inputs of one name are numbered."""
    endings = (".mask.png", ".overlay.png") if task == "segmentation" else (".overlay.png",)
    found, taken = [], set[str]()
    for name in names:
        last = Path(name).name if "[" in name else Path(name).stem
        plain = re.sub(r"[^\w.-]+", "_", last).strip("_.") or "input"
        stem = next(s for n in itertools.count(1) if (s := plain if n == 1 else f"{plain}_{n}") not in taken)
        taken.add(stem)
        found.append(tuple(folder / f"{stem}{ending}" for ending in endings))
    return found


def check_folder(folder: Path, files: Sequence[Sequence[Path]], force: bool) -> None:
    """Raise `BadInput` when `folder` can neither be used nor made, or one of `files` exists (without `force`), and
    `Unavailable` without Pillow."""
    if not has_pillow():
        raise Unavailable("--save: drawing pictures takes Pillow; `pip install pillow`, or leave it out")
    if folder.is_dir():
        for file in itertools.chain(*files):
            check_output(file, force)
        return
    above = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "no permission to write there" if above.is_dir() else "is no folder"
        raise BadInput(f"{folder}: cannot be made ({above}: {why}); choose another folder")


def save_all(
    found: Sequence[AnyPrediction], pixels: Iterable[Array], files: Sequence[Sequence[Path]]
) -> list[AnyPrediction]:
    """Write the pictures of every prediction, once all are known; `pixels` are the original images."""
    folder = files[0][0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error
    return [_saved(*each) for each in zip(found, pixels, files, strict=True)]


def _saved(found: AnyPrediction, pixels: Array, files: Sequence[Path]) -> AnyPrediction:
    if isinstance(found, MaskPrediction):
        return save_mask(found, pixels, files)
    assert isinstance(found, BoxesPrediction)
    return save_boxes(found, pixels, files)


def save_mask(found: MaskPrediction, pixels: Array, files: Sequence[Path]) -> MaskPrediction:
    """Write mask and overlay; `pixels` uint8 (H, W) or (H, W, 3) is the original image."""
    from PIL import Image

    mask_file, overlay = files
    image = Image.fromarray(found.mask, "P")
    image.putpalette(colours().tobytes())
    _write(image, mask_file)
    _write(Image.fromarray(under_mask(pixels, found.mask)), overlay)
    return replace(found, files=tuple(map(str, files)))


def under_mask(pixels: Array, mask: Array) -> Array:
    """uint8 (H, W, 3): the image with the colours of the `mask` (H, W) over it; class 0 is left as it is."""
    colour = colours()[mask].astype(np.float32)
    base = rgb(pixels).astype(np.float32)
    shown = np.where((mask > 0)[:, :, None], WEIGHT * colour + (1 - WEIGHT) * base, base)
    return np.asarray(np.rint(shown).astype(np.uint8))


def save_boxes(found: BoxesPrediction, pixels: Array, files: Sequence[Path]) -> BoxesPrediction:
    """Write the image with its boxes, each class in its colour."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(rgb(pixels))
    draw = ImageDraw.Draw(image)
    kinds = sorted({box.label for box in found.boxes})
    for box in reversed(found.boxes):
        colour = tuple(colours()[1 + kinds.index(box.label) % 255].tolist())
        x1, y1, x2, y2 = box.box
        draw.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=colour)
        draw.text((x1 + 2, y1 + 1), f"{box.label} {box.score:.0%}", fill=colour)
    _write(image, files[0])
    return replace(found, files=tuple(map(str, files)))


def rgb(pixels: Array) -> Array:
    """uint8 (H, W, 3) of a uint8 image, grey or in colours."""
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return np.ascontiguousarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[:, :, :3])


def _write(image: Image.Image, path: Path) -> None:
    with replace_whole(path) as temporary:
        image.save(temporary, format="PNG")
