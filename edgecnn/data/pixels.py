"""How pictures become a network's input, as users say it and as they read it: `--preprocess`, and a line in the report.

    imagenet     (x / 255 - mean) / std with ImageNet's statistics        unit     x / 255
    signed       x / 127.5 - 1                                            yolo     x / 255, letterboxed on grey 114
    caffe        BGR, x - ImageNet's means in 0..255                      raw      x, 0 to 255
    F.json       {"mean": [..], "std": [..]}, which may be given itself, too; or image_processor.py's file

Nothing in a checkpoint says how its pixels were prepared, and a wrong guess costs accuracy without an error: so what is
used is always shown, and can always be said: docs/preprocess.md. Test: tests/test_pixels.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecnn.data import image_processor
from edgecnn.networks.spec import IMAGENET, LEVELS, PICTURE, Shape, levels_range, preprocess_for, unit_range
from runtimes import plugins
from runtimes.base import BadInput
from runtimes.files import check_input_file
from runtimes.imaging.preprocess import CHANNELS, FLOAT32, FLOAT32_NHWC, UINT8, UINT8_NHWC, Preprocess
from runtimes.imaging.resampling import BILINEAR

NAMES = ("caffe", "imagenet", "raw", "signed", "unit", "yolo")
YOLO: dict[str, Any] = {"letterbox": 114, "antialias": False}
"""How YOLO's own code makes a picture fit: on grey, resized by OpenCV."""
CAFFE = (103.939, 116.779, 123.68)
"""Means of blue, green and red in 0..255, as the ResNets and VGGs of Caffe, and of Keras, subtract them."""
LIMIT_BYTES = 1 << 16
LARGEST = 5.0
"""Of a mean or deviation; pixels / 255 have none above 1, pixels of any picture that is not black have larger ones."""


def read_preprocess(text: str, shape: Shape, layout: str = FLOAT32) -> Preprocess:
    """The preprocessing that `text` names (or the JSON file that it is) for images of `shape` (C, H, W), given to the
    network as `layout` says: one of `runtimes.imaging.preprocess.INPUTS`.

    Raises `BadInput` for unknown names, damaged files, settings that do not fit, and networks that take no pictures.
    """
    if len(shape) != PICTURE:
        raise BadInput(f"--preprocess {text}: the network takes {list(shape)}, no pictures; leave it out")
    channels, height, width = shape
    if channels not in CHANNELS:
        raise BadInput(f"--preprocess {text}: the network takes {channels} channels; pictures have 1 or 3")
    plain = Preprocess(size=(height, width), channels=channels, input=layout)
    if text == "unit":
        return plain
    if text == "yolo":
        return as_yolo(plain)
    if text == "signed":
        return replace(unit_range(height, width, channels), input=layout)
    if text == "raw":
        return replace(levels_range(height, width, channels), input=layout)
    if text in ("caffe", "imagenet") and channels != IMAGENET.channels:
        raise BadInput(f"--preprocess {text}: is for RGB, the network takes {channels} channel; use unit or signed")
    if text == "caffe":
        return replace(levels_range(height, width, channels, CAFFE), input=layout, bgr=True)
    if text == "imagenet":
        return replace(preprocess_for(shape, IMAGENET) or plain, input=layout)
    if not _holds_values(text):
        known = plugins.unknown(text, NAMES, "preprocessing").rstrip("?")
        raise BadInput(f"--preprocess {known}, or give a .json file")
    return _from_file(text, plain)


def says_layout(text: str) -> bool:
    """Whether the file that `text` may be says where the network has its channels."""
    return _holds_values(text) and "input" in _values(text)


def _holds_values(text: str) -> bool:
    return text.endswith(".json") or text.startswith("{")


def as_yolo(preprocess: Preprocess) -> Preprocess:
    """The same size and layout with YOLO's own pixels: x / 255, letterboxed on grey 114 as OpenCV resizes."""
    return replace(preprocess, resize=None, mean=(0.0,), std=(1.0,), **YOLO)


def _values(path: str) -> dict[str, Any]:
    try:
        said = path if path.startswith("{") else check_input_file(Path(path), LIMIT_BYTES).read_text("utf-8")
        values = json.loads(said)
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f'{path}: is not JSON ({str(error)[:80]}); write for example {{"mean": [0.5]}}') from error
    if not isinstance(values, dict):
        raise BadInput(f'{path}: is not an object; write for example {{"mean": [0.5], "std": [0.5]}}')
    if not image_processor.is_one(values):
        return values
    try:
        return image_processor.settings(values)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _from_file(path: str, plain: Preprocess) -> Preprocess:
    values = _values(path)
    plain = _laid_out(plain, values.get("input", plain.input), path)
    try:
        found = Preprocess.from_dict({**plain.to_dict(), **values})
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    refuse_pixel_units(found, path)
    if (found.size, found.channels) != (plain.size, plain.channels):
        have, want = (f"{p.channels}x{p.size[0]}x{p.size[1]}" for p in (found, plain))
        raise BadInput(f"{path}: makes {have}, the network takes {want}; give --input-shape, or leave size out")
    return replace(found, size=plain.size)


def _laid_out(plain: Preprocess, layout: object, path: str) -> Preprocess:
    """`plain` for a network whose floats are laid out otherwise than its shape was read; `BadInput` where it cannot."""
    if layout not in (FLOAT32, FLOAT32_NHWC) or not plain.floating:
        return plain
    last, sizes = layout == FLOAT32_NHWC, plain.shape
    channels, size = (sizes[2], sizes[:2]) if last else (sizes[0], sizes[1:])
    if channels not in CHANNELS:
        raise BadInput(f"{path}: input {layout!r}; the network takes {list(sizes)}, {plain.input}: leave input out")
    return replace(plain, size=size, channels=channels, input=str(layout))


def refuse_pixel_units(preprocess: Preprocess, subject: str) -> None:
    """Raise `BadInput` where mean or deviation are plainly of pixels 0..255: they are taken of pixels / 255 here."""
    for name, values in (("mean", preprocess.mean), ("std", preprocess.std)):
        most = max(values, key=abs)
        if abs(most) > LARGEST:
            raise BadInput(
                f"{subject}: {name} {most:g} is of pixels in 0..255; mean and std are of pixels / 255 here: divide "
                f"both by 255, {name} becomes {most / 255:.4g} (docs/preprocess.md)"
            )


def in_words(preprocess: Preprocess | None) -> str:
    """One line for people.

    >>> in_words(IMAGENET)
    'RGB, shorter side to 256, centre 224x224, (x/255 - 0.485 0.456 0.406) / 0.229 0.224 0.225'
    >>> in_words(Preprocess(size=(32, 32), channels=1))
    'grey, stretched to 32x32, x/255'
    >>> in_words(Preprocess(size=(32, 32), channels=1, input=UINT8_NHWC))
    'grey, stretched to 32x32, pixels as they are, uint8 (H, W, C)'
    >>> in_words(Preprocess(size=(640, 640), letterbox=114, bgr=True))
    'BGR, letterboxed to 640x640 on grey 114, x/255'
    >>> in_words(Preprocess(size=(32, 32), channels=1, white=4095))
    'grey, 4095 of 16 bits white, stretched to 32x32, x/255'
    >>> in_words(Preprocess(size=(32, 32), std=(1 / 255,)))
    'RGB, stretched to 32x32, x of 0 to 255'
    >>> in_words(None)
    'ready arrays, no pictures'
    """
    if preprocess is None:
        return "ready arrays, no pictures"
    height, width = preprocess.size
    colour = "grey" if preprocess.channels == 1 else "BGR" if preprocess.bgr else "RGB"
    colour += f", {preprocess.white} of 16 bits white" if preprocess.white is not None else ""
    fit = f"stretched to {height}x{width}"
    if preprocess.resize is not None:
        fit = f"shorter side to {preprocess.resize}, centre {height}x{width}"
    if preprocess.letterbox is not None:
        where = ", at the top left" if preprocess.corner else ""
        fit = f"letterboxed to {height}x{width} on grey {preprocess.letterbox}{where}"
    sharp = [] if preprocess.interpolation == BILINEAR else [preprocess.interpolation]
    sharp += [] if preprocess.antialias else ["not antialiased"]
    fit = f"{fit} ({', '.join(sharp)})" if sharp else fit
    mean, std = (" ".join(f"{v:g}" for v in values) for values in (preprocess.mean, preprocess.std))
    plain = not any(preprocess.mean) and set(preprocess.std) == {1.0}
    if plain and not preprocess.floating:
        return f"{colour}, {fit}, pixels as they are, uint8 {'(H, W, C)' if preprocess.channels_last else '(C, H, W)'}"
    layouts = {
        FLOAT32_NHWC: ", channels last",
        UINT8: " inside, from uint8 (C, H, W)",
        UINT8_NHWC: " inside, from uint8 (H, W, C)",
    }
    values = "x/255" if plain else f"(x/255 - {mean}) / {std}"
    if set(preprocess.std) == {1 / LEVELS}:
        means = " ".join(f"{LEVELS * v:g}" for v in preprocess.mean)
        values = f"x - {means}" if any(preprocess.mean) else "x of 0 to 255"
    return f"{colour}, {fit}, {values}{layouts.get(preprocess.input, '')}"
