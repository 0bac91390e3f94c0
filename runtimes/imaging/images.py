"""Image files, decoded with distrust: `read_image(path)` gives uint8 pixels or one line that names the file.

A picture can be a trap: a few bytes that declare 60,000 x 60,000 pixels, a named pipe called a.png, a format whose
decoder starts another program. So: regular files only, the size is asked before a pixel is decoded, only formats of
cameras and screens are known. The EXIF orientation is applied, 16-bit grey is scaled to 8, transparency is dropped.

Pillow decodes, where it is installed. A device may lack it: then binary PGM and PPM of 8 bits are read, `P5` or `P6`,
width, height, 255, one space, pixels. Source: Netpbm, pgm(5) and ppm(5). Test: tests/test_images.py.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from runtimes.base import Array, BadInput, Unavailable
from runtimes.files import check_input_file

if TYPE_CHECKING:
    from PIL import Image

FILE_LIMIT_BYTES = 256 << 20
PIXEL_LIMIT = 100_000_000
T = TypeVar("T")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_GAP = rb"(?:\s|#[^\n]*\n)+"
_NETPBM = re.compile(rb"P([56])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"255\s")
_NETPBM_HEAD_BYTES = 4096
ORIENTATION = 0x0112
"""EXIF tag: 5 to 8 swap height and width."""


def read_image(path: Path | str) -> Array:
    """uint8 (H, W) for grey and (H, W, 3) for everything else; raises `BadInput` naming the file, and `Unavailable`
    where it takes Pillow."""
    path = check_input_file(Path(path), FILE_LIMIT_BYTES)
    return decoded(path, _upright) if has_pillow() else read_netpbm(path)


def has_pillow() -> bool:
    return importlib.util.find_spec("PIL") is not None


def decoded(path: Path, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of the image in `path`; every way to fail becomes one line."""
    from PIL import Image, UnidentifiedImageError

    path = check_input_file(path, FILE_LIMIT_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit stands below; broken EXIF is no reason to talk
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                _check_size(path, width, height)
                return use(image)
    except BadInput:
        raise
    except Image.DecompressionBombError as error:
        raise BadInput(f"{path}: declares far more than {PIXEL_LIMIT:,} pixels; shrink or remove it") from error
    except Exception as error:  # decoders of damaged files raise whatever comes to their mind
        unknown = isinstance(error, UnidentifiedImageError | KeyError)  # KeyError: Pillow without that format
        cause = "unknown format" if unknown else f"{error}"[:80]
        raise BadInput(f"{path}: is not an image or is damaged ({cause}); replace or remove it") from error


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image as it stands upright, from its header; takes Pillow."""
    return decoded(path, _upright_size)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def read_netpbm(path: Path) -> Array:
    """A binary PGM or PPM of 8 bits without Pillow; raises `Unavailable` for every other file."""
    data = path.read_bytes()
    head = _NETPBM.match(data[:_NETPBM_HEAD_BYTES])
    if head is None:
        raise Unavailable(f"{path}: reading it takes Pillow; `pip install pillow`, or give .npy, binary .ppm or .pgm")
    width, height, channels = int(head[2]), int(head[3]), 3 if head[1] == b"6" else 1
    _check_size(path, width, height)
    if not width * height or len(data) - head.end() < width * height * channels:
        raise BadInput(f"{path}: is not an image or is damaged (cut off); replace or remove it")
    pixels = np.frombuffer(data, np.uint8, width * height * channels, head.end())
    return pixels.reshape((height, width, 3) if channels == 3 else (height, width))


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > PIXEL_LIMIT:
        raise BadInput(f"{path}: has {width} x {height} pixels, the limit is {PIXEL_LIMIT:,}; shrink it")


def _upright(image: Image.Image) -> Array:
    from PIL import ImageOps

    return _pixels(ImageOps.exif_transpose(image))


def _pixels(image: Image.Image) -> Array:
    if image.mode.startswith("I;16"):
        return (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise ValueError("32-bit grey has no known white level")
    return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
