"""Image files, decoded with distrust: `read_image(path)` gives uint8 pixels or one line that names the file.

A picture can be a trap: a few bytes that declare 60,000 x 60,000 pixels, a named pipe called a.png, a format whose
decoder starts another program. So: regular files only, the size is asked before a pixel is decoded, only formats of
cameras and screens are known. The EXIF orientation is applied, 16-bit grey is scaled to 8, transparency is dropped.
Test: tests/test_images.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from runtimes.base import Array, BadInput
from runtimes.files import check_input_file

FILE_LIMIT_BYTES = 256 << 20
PIXEL_LIMIT = 100_000_000
ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)
"""EXIF's tag for how the camera was held, and those of its values that swap width and height."""
T = TypeVar("T")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")


def read_image(path: Path | str) -> Array:
    """uint8 (H, W) for grey and (H, W, 3) for everything else; raises `BadInput` naming the file."""
    return _read(Path(path), lambda image: _pixels(ImageOps.exif_transpose(image)))


def read_mask(path: Path | str) -> Array:
    """uint8 (H, W): the class at each pixel, which is what a grey or palette image holds; raises `BadInput`."""
    return _read(Path(path), lambda image: _indices(path, image))


def image_size(path: Path | str) -> tuple[int, int]:
    """(H, W) as `read_image` would give it, from the file's head alone; raises `BadInput` naming the file."""

    def upright(image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        return (width, height) if image.getexif().get(ORIENTATION, 1) in LYING else (height, width)

    return _read(Path(path), upright)


def _read(path: Path, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of the image in `path`; every way to fail becomes one line."""
    path = check_input_file(path, FILE_LIMIT_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit stands below; broken EXIF is no reason to talk
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > PIXEL_LIMIT:
                    raise BadInput(f"{path}: has {width} x {height} pixels, the limit is {PIXEL_LIMIT:,}; shrink it")
                return use(image)
    except BadInput:
        raise
    except Image.DecompressionBombError as error:
        raise BadInput(f"{path}: declares far more than {PIXEL_LIMIT:,} pixels; shrink or remove it") from error
    except Exception as error:  # decoders of damaged files raise whatever comes to their mind
        unknown = isinstance(error, UnidentifiedImageError | KeyError)  # KeyError: Pillow without that format
        cause = "unknown format" if unknown else f"{error}"[:80]
        raise BadInput(f"{path}: is not an image or is damaged ({cause}); replace or remove it") from error


def _indices(path: Path | str, image: Image.Image) -> Array:
    if image.mode not in ("L", "P", "1"):
        raise BadInput(f"{path}: holds {image.mode} pixels; a mask is a grey or palette PNG of class indices")
    return np.asarray(image).astype(np.uint8)


def _pixels(image: Image.Image) -> Array:
    if image.mode.startswith("I;16"):
        return (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise ValueError("32-bit grey has no known white level")
    return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
