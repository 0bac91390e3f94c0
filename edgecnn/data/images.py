"""Masks in image files, and sizes from a file's head; pictures are runtimes/imaging/images.py.

Test: tests/test_images.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtimes.base import Array, BadInput
from runtimes.imaging.images import decoded, look_at, read_image, upright
from runtimes.imaging.images import picture_size as image_size

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["image_size", "look_at", "read_image", "read_mask"]


def read_mask(path: Path | str) -> Array:
    """uint8 (H, W): the class at each pixel, upright, of a grey or palette image; raises `BadInput`."""
    return decoded(Path(path), lambda image: _indices(path, image))


def _indices(path: Path | str, image: Image.Image) -> Array:
    if image.mode not in ("L", "P", "1"):
        raise BadInput(f"{path}: holds {image.mode} pixels; a mask is a grey or palette PNG of class indices")
    return np.asarray(upright(image)).astype(np.uint8)
