"""Predictions as pictures: a mask as a palette PNG of class indices, and the image with mask or boxes drawn over it.

    NAME.mask.png       the class of each pixel, as a training mask holds it; colours are only shown
    NAME.overlay.png    the image under the mask, or with its boxes or points
    NAME.answer.png     the picture that the network made of it

Colours of masks are PASCAL VOC's: bit k of a class's number, from the lowest, goes in turn to red, green and blue, from
the highest bit down. Those of boxes and points: `colour_of`. Pillow draws; where it is missing, `require_pillow`
says so. Test: tests/test_pictures.py.
"""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.base import Array, Unavailable
from runtimes.files import replace_whole
from runtimes.imaging.images import has_pillow
from runtimes.imaging.named import make_folder, stems
from runtimes.proof.answers import IMAGE, AnyPrediction, BoxesPrediction, MaskPrediction, PicturePrediction
from runtimes.proof.points import SPOKEN, PointsPrediction

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
WEIGHT = 0.5
"""Of the colour over the image."""
GOLDEN = 0.618034
LIGHT = 0.65
"""Saturation of a box's colour: black letters can be read on all of them."""


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
    kinds = {"segmentation": (".mask.png", ".overlay.png"), IMAGE: (".answer.png",)}
    endings = kinds.get(task, (".overlay.png",))
    return [tuple(folder / f"{stem}{ending}" for ending in endings) for stem in stems(names)]


def require_pillow() -> None:
    """Raise `Unavailable` without what draws."""
    if not has_pillow():
        raise Unavailable("--save: drawing pictures takes Pillow; `pip install pillow`, or leave it out")


def saved(
    found: AnyPrediction, pixels: Callable[[], Array], files: Sequence[Path], labels: Sequence[str]
) -> AnyPrediction:
    """Write the pictures of a prediction; `pixels` makes the original image.

    `labels` are all that the network knows: a box's colour goes by its place among them.
    """
    make_folder(files[0].parent)
    if isinstance(found, MaskPrediction):
        return save_mask(found, pixels(), files)
    if isinstance(found, PicturePrediction):
        from PIL import Image

        _write(Image.fromarray(found.picture), files[0])
        return replace(found, files=tuple(map(str, files)))
    if isinstance(found, PointsPrediction):
        return save_points(found, pixels(), files)
    assert isinstance(found, BoxesPrediction)
    return save_boxes(found, pixels(), files, labels)


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


def save_boxes(found: BoxesPrediction, pixels: Array, files: Sequence[Path], labels: Sequence[str]) -> BoxesPrediction:
    """Write the image with its boxes, each class in its colour, the surest on top."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(rgb(pixels))
    draw = ImageDraw.Draw(image)
    width, text = max(1, round(min(image.size) / 240)), max(10, round(min(image.size) / 36))
    font = ImageFont.load_default(text)
    for box in reversed(found.boxes):
        colour = colour_of(box.label, labels)
        x1, y1, x2, y2 = box.box
        draw.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=colour, width=width)
        _caption(draw, f"{box.label} {box.score:.0%}", (x1, y1), image.size, font, colour)
    _write(image, files[0])
    return replace(found, files=tuple(map(str, files)))


def save_points(found: PointsPrediction, pixels: Array, files: Sequence[Path]) -> PointsPrediction:
    """Write the image with a dot at each point, each in its colour; few are captioned with their names."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(rgb(pixels))
    draw = ImageDraw.Draw(image)
    radius, text = max(1, round(min(image.size) / 100)), max(10, round(min(image.size) / 36))
    font, labels = ImageFont.load_default(text), [point.label for point in found.points]
    for point in found.points:
        colour = colour_of(point.label, labels)
        x, y = point.x, point.y
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline="black")
        if len(labels) <= SPOKEN:
            _caption(draw, point.label, (x + radius, y - radius), image.size, font, colour)
    _write(image, files[0])
    return replace(found, files=tuple(map(str, files)))


def _caption(
    draw: ImageDraw.ImageDraw, text: str, corner: tuple[float, float], size: tuple[int, int], font: Any, colour: Colour
) -> None:
    """`text` on a ground of the `colour`: above the corner where there is room, and always inside the image."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    wide, high = right - left + 4, bottom - top + 4
    x = min(max(corner[0], 0), max(size[0] - wide, 0))
    y = corner[1] - high if corner[1] >= high else max(corner[1], 0)
    draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=colour)
    draw.text((x + 2 - left, y + 2 - top), text, fill="black", font=font)


def colour_of(label: str, labels: Sequence[str]) -> Colour:
    """A light colour, (red, green, blue) of 0 .. 255, the same for a class of a network in all pictures.

    Neighbours among `labels` are a golden section of the circle of hues apart; a class without a name has the hue of
    its number's CRC-32.

    >>> colour_of("cat", ["cat", "dog"]), colour_of("dog", ["cat", "dog"])
    ((255, 89, 89), (89, 138, 255))
    """
    known = list(labels)
    hue = GOLDEN * known.index(label) if label in known else zlib.crc32(label.encode("utf-8", "replace")) / 2**32
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1.0, LIGHT, 1.0))
    return red, green, blue


def rgb(pixels: Array) -> Array:
    """uint8 (H, W, 3) of a uint8 image, grey or in colours."""
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return np.ascontiguousarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[:, :, :3])


def _write(image: Image.Image, path: Path) -> None:
    with replace_whole(path) as temporary:
        image.save(temporary, format="PNG")
