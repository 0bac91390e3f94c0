"""Arrays as pictures inside the page: what a network was given as pixels, and pixels as data URIs.

    x = (p / 255 - mean) / std   ->   p = 255 (x std + mean)

Test: tests/test_page.py.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from edgecnn.page.html import Html, tag
from runtimes.base import Array
from runtimes.imaging.pictures import colours, rgb
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof.answers import Box
from runtimes.proof.points import Point

MOST_SIDE, SMALL_SIDE = 320, 96
"""Larger pictures are scaled down; those up to the second are kept to the pixel."""
JPEG_QUALITY = 85


def pixels_of(given: Array, preprocess: Preprocess | None) -> Array | None:
    """uint8 (H, W, 1 or 3) of what the network was `given` of one image; None for what is no picture.

    Without preprocessing the values are stretched to what can be seen.
    """
    if given.ndim != 3 or 0 in given.shape:
        return None
    if preprocess is None:
        return _stretched(given)
    shown = given if preprocess.channels_last else given.transpose(1, 2, 0)
    if shown.shape[2] != preprocess.channels:
        return None
    if preprocess.bgr:
        turned = pixels_of(given, replace(preprocess, bgr=False))
        return None if turned is None else turned[:, :, ::-1]
    if given.dtype == np.uint8:
        return shown
    values = np.nan_to_num(255 * (shown.astype(np.float64) * np.array(preprocess.std) + np.array(preprocess.mean)))
    return np.asarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _stretched(given: Array) -> Array | None:
    if given.shape[0] > 16:  # features, not channels
        return None
    values = np.nan_to_num(given[: 3 if given.shape[0] >= 3 else 1].astype(np.float64))
    low, high = values.min(), values.max()
    grey = np.rint((values - low) * (255 / max(high - low, 1e-12)))
    return np.asarray(np.clip(grey, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def data_uri(pixels: Array) -> str:
    """`pixels` uint8 (H, W, 1 or 3) as a data URI: small pictures exactly, others within 320 pixels and as JPEG."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))
    small = max(image.size) <= SMALL_SIDE
    if max(image.size) > MOST_SIDE:
        share = MOST_SIDE / max(image.size)
        width, height = (max(1, round(side * share)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    if small:
        image.save(stream, format="PNG", optimize=True)
    else:
        image.save(stream, format="JPEG", quality=JPEG_QUALITY)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(stream.getvalue()).decode()}"


def picture(pixels: Array, alt: str) -> Html:
    height, width = pixels.shape[:2]
    small = "pixelated" if max(height, width) <= SMALL_SIDE else None
    return tag("img", src=data_uri(pixels), alt=alt, width=str(width), height=str(height), class_=small)


def with_boxes(pixels: Array, boxes: Sequence[Box], alt: str) -> Html:
    """The picture with its boxes as lines over it, each class in its colour; numbered as in the list of them."""
    height, width = pixels.shape[:2]
    kinds = sorted({box.label for box in boxes})
    unit = max(height, width) / 64
    drawn = []
    for i, box in reversed(list(enumerate(boxes, 1))):
        x1, y1, x2, y2 = box.box
        place = {
            "x": f"{x1:.2f}",
            "y": f"{y1:.2f}",
            "width": f"{max(x2 - x1, 0):.2f}",
            "height": f"{max(y2 - y1, 0):.2f}",
        }
        colour = bright(kinds.index(box.label))
        drawn.append(tag("rect", **place, fill="none", stroke="#000", stroke_width=f"{1.6 * unit:.2f}", opacity="0.55"))
        drawn.append(tag("rect", **place, fill="none", stroke=colour, stroke_width=f"{0.8 * unit:.2f}"))
        label = {"x": f"{x1 + unit:.2f}", "y": f"{y1 + 4.4 * unit:.2f}", "font_size": f"{4.2 * unit:.2f}"}
        drawn.append(tag("text", str(i), **label, fill=colour, stroke="#000", stroke_width=f"{0.5 * unit:.2f}",
                         paint_order="stroke", font_weight="700"))  # fmt: skip
    return _under(pixels, drawn, alt)


def with_points(pixels: Array, points: Sequence[Point], alt: str) -> Html:
    """The picture with a dot at each of its points, each in its colour."""
    height, width = pixels.shape[:2]
    unit = max(height, width) / 64
    dots = [
        tag("circle", tag("title", point.label), cx=f"{point.x:.2f}", cy=f"{point.y:.2f}", r=f"{unit:.2f}",
            fill=bright(i), stroke="#000", stroke_width=f"{0.3 * unit:.2f}")
        for i, point in enumerate(points)
    ]  # fmt: skip
    return _under(pixels, dots, alt)


def _under(pixels: Array, drawn: Sequence[Html], alt: str) -> Html:
    """The picture with what is `drawn` over it, in its pixels."""
    height, width = pixels.shape[:2]
    small = "pixelated" if max(height, width) <= SMALL_SIDE else None
    image = tag("image", href=data_uri(rgb(pixels)), width=str(width), height=str(height), class_=small)
    return tag("svg", image, *drawn, viewBox=f"0 0 {width} {height}", role="img", aria_label=alt)


def bright(index: int) -> str:
    """A colour that is seen on pictures, one of PASCAL VOC's made light."""
    red, green, blue = (int(v) for v in 127 + colours()[1 + index % 255].astype(int))
    return f"#{min(red, 255):02x}{min(green, 255):02x}{min(blue, 255):02x}"


def colour_of(index: int) -> str:
    """The colour of class `index` in a mask."""
    return f"#{colours()[index].tobytes().hex()}"
