"""Image files, decoded with distrust: `read_image(path)` gives pixels or one line that names the file.

A picture can be a trap: a few bytes that declare 60,000 x 60,000 pixels, a named pipe called a.png, a format whose
decoder starts another program. So: regular files only, the size is asked before a pixel is decoded, only formats of
cameras and screens are known. The EXIF orientation is applied, transparency is dropped, 16-bit grey keeps its bits.

Pillow decodes, where it is installed. A device may lack it: then binary PGM and PPM are read (netpbm.py); those of 16
bits always are, as Pillow scales them by itself. Test: tests/test_images.py.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from runtimes.base import Array, BadInput, EdgeError, Unavailable
from runtimes.files import check_input_file
from runtimes.imaging.depth import FULL, PLAIN, Look
from runtimes.imaging.netpbm import head_of, read_netpbm

if TYPE_CHECKING:
    from PIL import Image

FILE_LIMIT_BYTES = 256 << 20
PIXEL_LIMIT = 100_000_000
T = TypeVar("T")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
UNREAD = (".avif", ".heic", ".heif", ".jp2", ".jxl")
"""Of pictures too, in formats whose decoders are not at hand everywhere."""
PAGED = ("GIF", "PNG", "TIFF", "WEBP")
ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)
"""EXIF's tag for how the camera was held, and those of its values that swap height and width."""
TIFF_WIDTH, TIFF_HEIGHT, TIFF_BITS, TIFF_KIND, SIGNED = 256, 257, 258, 339, 2
"""Tags of the pixels as stored; what Pillow calls a TIFF's size may be that of the upright picture already. Of signed
whole numbers it reads the bits as unsigned ones."""


def read_image(path: Path | str, white: int | None = None) -> Array:
    """uint8 (H, W) for grey and (H, W, 3) for everything else, uint16 where a picture has 16 bits; raises `BadInput`
    naming the file, and `Unavailable` where it takes Pillow.

    `white`: the value of 16 bits that is white, if somebody says so; else a file's own is scaled to 65535.
    """
    path = check_input_file(Path(path), FILE_LIMIT_BYTES)
    head = head_of(path)
    if head is not None and (head.deep or not has_pillow()):
        _check_size(path, head.width, head.height)
        return read_netpbm(path, head, white)
    if not has_pillow():
        raise Unavailable(f"{path}: reading it takes Pillow; `pip install pillow`, or give .npy, binary .ppm or .pgm")
    return decoded(path, lambda image: _levels(path, image, white))


def look_at(path: Path | str, white: int | None = None) -> Look:
    """What there is to the picture in `path` besides its pixels; of 8 bits only its head is read. Plain for what cannot
    be read: whoever reads it says it better.
    """
    try:
        path = check_input_file(Path(path), FILE_LIMIT_BYTES)
        head = head_of(path)
        if head is not None:
            known = white is None and head.white < FULL
            return PLAIN if known or not head.deep else Look(peak=int(read_image(path, white).max()))
        return decoded(path, _looked) if has_pillow() else PLAIN
    except EdgeError:
        return PLAIN


def has_pillow() -> bool:
    return importlib.util.find_spec("PIL") is not None


def decoded(path: Path, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of the image in `path`; every way to fail becomes one line."""
    from PIL import Image, UnidentifiedImageError

    path = check_input_file(path, FILE_LIMIT_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit stands below; broken EXIF is no reason to talk
            # a file, not its path: newer Pillows map the grey TIFF at a path with the sides of the upright picture
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                _check_size(path, width, height)
                _check_signs(path, image)
                return use(image)
    except BadInput:
        raise
    except Image.DecompressionBombError as error:
        raise BadInput(f"{path}: declares far more than {PIXEL_LIMIT:,} pixels; shrink or remove it") from error
    except Exception as error:  # decoders of damaged files raise whatever comes to their mind
        unknown = isinstance(error, UnidentifiedImageError | KeyError)  # KeyError: Pillow without that format
        if unknown and path.suffix.lower() in UNREAD:
            raise BadInput(f"{path}: pictures of {path.suffix} are not read; convert it to JPEG or PNG") from error
        cause = "unknown format" if unknown else f"{error}"[:80]
        raise BadInput(f"{path}: is not an image or is damaged ({cause}); replace or remove it") from error


def picture_size(path: Path | str) -> tuple[int, int]:
    """(H, W) as `read_image` would give it, from the file's head alone; takes Pillow, raises `BadInput`."""
    return decoded(Path(path), _upright_size)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(TIFF_WIDTH, image.width), tags.get(TIFF_HEIGHT, image.height)
    return (width, height) if image.getexif().get(ORIENTATION) in LYING else (height, width)


def upright(image: Image.Image) -> Image.Image:
    """`image` as the camera was held; a TIFF is turned by being loaded, all others after it."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > PIXEL_LIMIT:
        raise BadInput(f"{path}: has {width} x {height} pixels, the limit is {PIXEL_LIMIT:,}; shrink it")


def _check_signs(path: Path, image: Image.Image) -> None:
    tags = getattr(image, "tag_v2", {})
    if SIGNED in tags.get(TIFF_KIND, ()):
        bits = tags.get(TIFF_BITS, (1,))[0]
        raise BadInput(
            f"{path}: has signed {bits}-bit pixels, and a picture's start at 0; "
            "save it as uint16 with an offset, or give float arrays"
        )


def _levels(path: Path, image: Image.Image, white: int | None) -> Array:
    if white not in (None, FULL) and _loses_bits(image):
        raise BadInput(
            f"{path}: has 16 bits and colour or transparency, so that 8 bits are read, and white {white} needs all; "
            "save 16-bit grey, or a uint16 .npy"
        )
    deep = _is_deep(image)
    return _pixels(upright(image), deep)


def _pixels(image: Image.Image, deep: bool) -> Array:
    if deep:
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        raise ValueError("32-bit grey has no known white level")
    return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))


def _looked(image: Image.Image) -> Look:
    """Pages count where a format has them for nothing else: cameras hide previews in a JPEG."""
    frames = int(getattr(image, "n_frames", 1)) if image.format in PAGED else 1
    return Look(frames, int(np.asarray(image).max()) if _is_deep(image) else None)


def _is_deep(image: Image.Image) -> bool:
    """Whether a picture of grey has 16 bits, which older Pillows call "I" in a PNG; asked before it is decoded."""
    return image.mode.startswith("I;16") or (image.mode == "I" and "I;16" in _raw(image))


def _loses_bits(image: Image.Image) -> bool:
    """Whether Pillow reads 8 of 16 bits, as it does wherever there is more than grey."""
    return image.format in ("PNG", "TIFF") and not _is_deep(image) and ";16" in _raw(image)


def _raw(image: Image.Image) -> str:
    """What the decoder of an image that was opened, and not read yet, will be told."""
    return str(getattr(image, "tile", ""))
