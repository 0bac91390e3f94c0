"""Masks in image files, and sizes from a file's head; pictures are runtimes/imaging/images.py.

Test: tests/test_images.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtimes.base import Array, BadInput
from runtimes.imaging.images import decoded, look_at, read_image

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["image_size", "look_at", "read_image", "read_mask"]

ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)
"""EXIF's tag for how the camera was held, and those of its values that swap width and height."""


def read_mask(path: Path | str) -> Array:
    """uint8 (H, W): the class at each pixel, which is what a grey or palette image holds; raises `BadInput`."""
    return decoded(Path(path), lambda image: _indices(path, image))


def image_size(path: Path | str) -> tuple[int, int]:
    """(H, W) as `read_image` would give it, from the file's head alone; raises `BadInput` naming the file."""

    def upright(image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        return (width, height) if image.getexif().get(ORIENTATION, 1) in LYING else (height, width)

    return decoded(Path(path), upright)


def _indices(path: Path | str, image: Image.Image) -> Array:
    if image.mode not in ("L", "P", "1"):
        raise BadInput(f"{path}: holds {image.mode} pixels; a mask is a grey or palette PNG of class indices")
    return np.asarray(image).astype(np.uint8)
