"""From an image to a network's input, the same in calibration, evaluation and on the device.

    uint8 image -> channels -> resize -> centre crop or border -> (image / 255 - mean) / std -> (C, H, W)

An image of 16 bits goes the same way as levels of 0..255 with all their bits, float32 (depth.py).
A network that takes uint8 pixels normalizes them itself (`input`); everything before that is the same. A network from
TensorFlow takes (H, W, C), channels last; one from OpenCV or Caffe blue, green, red.

Source: torchvision `Resize`, `CenterCrop`; letterbox: Redmon's darknet, `letterbox_image`. The resize: resampling.py.
Test: tests/test_preprocess.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from runtimes import plugins
from runtimes.base import Array, BadInput
from runtimes.imaging.depth import FULL, LEVELS, levels, rounded
from runtimes.imaging.resampling import BILINEAR, INTERPOLATIONS, Cut, resize

MAX_SIDE = 16384
CROP_FROM_SIDE = 128
"""From this size up an image is resized to 8/7 of it and cropped, as for ImageNet; a smaller one is stretched."""
FLOAT32, FLOAT32_NHWC, UINT8, UINT8_NHWC = "float32", "float32-nhwc", "uint8", "uint8-nhwc"
INPUTS = (FLOAT32, FLOAT32_NHWC, UINT8, UINT8_NHWC)
"""What a network is given: normalized (C, H, W) or (H, W, C); pixels (C, H, W) or (H, W, C)."""
CHANNELS = (1, 3)
"""Of pictures: grey, and red, green, blue."""
NEWER = ("input", "letterbox", "corner", "bgr", "interpolation", "antialias", "white", "answer_range")
"""Settings that are written only where they say something."""
_LUMA = np.array([19595, 38470, 7471], np.int32)
"""ITU-R 601 weights of red, green and blue in 1/65536, as in Pillow's convert("L")."""


@dataclass(frozen=True)
class Preprocess:
    """`size` (H, W) and `channels` (1 or 3) of the result; `mean` and `std` are per channel (or one for all), in 0..1.

    `resize` None stretches the image to `size`; a number scales the shorter side to that many pixels, then cuts `size`
    out of the centre. `letterbox`, a grey level of 0..255, scales the whole image into `size` without changing its
    proportions, and fills the border; the image is in the middle, or, with `corner`, at the top left.
    `interpolation` is one of `INTERPOLATIONS`; "nearest" copies pixels, and without `antialias` the others, too, look
    at the nearest alone.
    `white` is the value of 16-bit images that counts as 1, None for 65535; those of 8 bits have 255.
    `answer_range`: the numbers that are black and white in a picture that the network answers with (answered.py), or
    the edges of its input in coordinates (keypoints.py).
    `input` is one of `INPUTS`; `bgr` turns the channels around, and `mean` and `std` are of blue, green, red then.
    Raises `BadInput` for values that make no sense.
    """

    size: tuple[int, int]
    channels: int = 3
    resize: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    input: str = FLOAT32
    letterbox: int | None = None
    corner: bool = False
    bgr: bool = False
    interpolation: str = BILINEAR
    antialias: bool = True
    white: int | None = None
    answer_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if len(self.size) != 2 or not all(_is_int(n) and 1 <= n <= MAX_SIDE for n in self.size):
            raise BadInput(f"preprocess: size {self.size!r}; two whole numbers from 1 to {MAX_SIDE} are needed")
        if not _is_int(self.channels) or self.channels not in CHANNELS:
            raise BadInput(f"preprocess: channels {self.channels!r}; 1 and 3 are known")
        if self.resize is not None and not (_is_int(self.resize) and max(self.size) <= self.resize <= MAX_SIDE):
            raise BadInput(f"preprocess: resize {self.resize!r}; {max(self.size)} (the crop) to {MAX_SIDE}, or None")
        if self.interpolation not in INTERPOLATIONS:
            raise BadInput(plugins.unknown(str(self.interpolation), INTERPOLATIONS, "preprocess interpolation"))
        if self.white is not None and not (_is_int(self.white) and LEVELS <= self.white <= FULL):
            raise BadInput(f"preprocess: white {self.white!r}; a whole number from {LEVELS} to {FULL}, or None")
        ends = self.answer_range
        if ends is not None and not (len(ends) == 2 and all(map(_is_real, ends)) and ends[0] != ends[1]):
            raise BadInput(f"preprocess: answer_range {ends!r}; 2 finite numbers are needed")
        self._check_border()
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels) or not all(_is_real(v) for v in values):
                raise BadInput(f"preprocess: {name} {values!r}; 1 or {self.channels} finite numbers are needed")
        if min(self.std) <= 0:
            raise BadInput(f"preprocess: std {self.std!r}; must be above 0")
        if self.input not in INPUTS:
            raise BadInput(plugins.unknown(str(self.input), INPUTS, "preprocess input"))

    def _check_border(self) -> None:
        for name in ("corner", "bgr", "antialias"):
            if not isinstance(getattr(self, name), bool):
                raise BadInput(f"preprocess: {name} {getattr(self, name)!r}; true or false is needed")
        if self.letterbox is not None and not (_is_int(self.letterbox) and 0 <= self.letterbox <= 255):
            raise BadInput(f"preprocess: letterbox {self.letterbox!r}; the grey level of its border, 0 to 255, or None")
        if self.letterbox is not None and self.resize is not None:
            raise BadInput("preprocess: letterbox and resize; the one shows the whole image, the other cuts its centre")
        if self.corner and self.letterbox is None:
            raise BadInput("preprocess: corner; it is where a letterbox has the image, so give letterbox too")
        if self.bgr and self.channels == 1:
            raise BadInput("preprocess: bgr; grey pictures have one channel")

    def __call__(self, image: Array) -> Array:
        """What the network is given of a uint8 or uint16 image (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); alpha is
        dropped.
        """
        pixels = self.pixels(image)
        if not self.floating:
            return self.arranged(rounded(pixels))
        ready = self.normalized(pixels)
        return np.ascontiguousarray(ready.transpose(1, 2, 0)) if self.channels_last else ready

    def at(self, size: tuple[int, int]) -> Preprocess:
        """The same for another `size` (H, W); a centre is cut out where it was, if `size` is a large square."""
        crops = self.resize is not None and size[0] == size[1] >= CROP_FROM_SIDE
        return replace(self, size=size, resize=size[0] * 8 // 7 if crops else None)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of what the network is given of one image."""
        height, width = self.size
        return (height, width, self.channels) if self.channels_last else (self.channels, height, width)

    @property
    def floating(self) -> bool:
        """Whether the network is given normalized numbers, not pixels."""
        return self.input in (FLOAT32, FLOAT32_NHWC)

    @property
    def channels_last(self) -> bool:
        return self.input in (FLOAT32_NHWC, UINT8_NHWC)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32 if self.floating else np.uint8)

    def normalized(self, pixels: Array) -> Array:
        """float32 (C, H, W) of `pixels` (H, W, C), levels of 0..255."""
        values = pixels.astype(np.float32) / np.float32(255)
        mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (self.mean, self.std))
        return np.ascontiguousarray((values.transpose(2, 0, 1) - mean) / std)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest number that any pixel becomes."""
        if not self.floating:
            return 0.0, 255.0
        mean, std = np.broadcast_arrays(np.asarray(self.mean, float), np.asarray(self.std, float))
        return float(((0 - mean) / std).min()), float(((1 - mean) / std).max())

    def arranged(self, pixels: Array) -> Array:
        """`pixels` uint8 (H, W, C) with their axes as the network wants them."""
        return np.ascontiguousarray(pixels if self.channels_last else pixels.transpose(2, 0, 1))

    def pixels(self, image: Array) -> Array:
        """The image as the network sees it, (H, W, C), before normalization: uint8, or float32 levels of 16 bits."""
        image = to_channels(levels(image, self.white), self.channels)
        image = image[:, :, ::-1] if self.bgr else image
        if self.letterbox is not None:
            return bordered(self._resized(image, within(image.shape[:2], self.size)), self)
        if self.resize is None:
            return self._resized(image, self.size)
        size = shorter_side(image.shape[:2], self.resize)
        return self._resized(image, size, centre(size, self.size))

    def _resized(self, image: Array, size: tuple[int, int], cut: Cut | None = None) -> Array:
        return resize(image, size, self.interpolation, self.antialias, cut)

    def floats(self, given: Array, last: bool = False) -> Array:
        """`given`, what the network is given of an image: pixels normalized, float32 (C, H, W) or, with channels
        `last`, (H, W, C); floats as they are.
        """
        if self.floating:
            return given
        made = self.normalized(given if self.channels_last else given.transpose(1, 2, 0))
        return np.ascontiguousarray(made.transpose(1, 2, 0)) if last else made

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        for field in fields(self):  # older readers do not know these settings, and need not
            if field.name in NEWER and values[field.name] == field.default:
                del values[field.name]
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """The inverse of `to_dict`; a number alone is one for all channels. Raises `BadInput` for unknown names and
        wrong types.
        """
        if not isinstance(values, Mapping) or "size" not in values:
            raise BadInput("preprocess: an object with at least `size` is needed")
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise BadInput(plugins.unknown(str(name), known, "preprocess setting"))
        plain = {name: (values[name],) for name in ("mean", "std") if type(values.get(name)) in (int, float)}
        for name in ("size", "mean", "std", "answer_range"):
            if name not in plain and not isinstance(values.get(name) or [], (list, tuple)):
                numbers = "number, or a " if name in ("mean", "std") else ""
                raise BadInput(f"preprocess: {name} {values[name]!r}; a {numbers}list is needed")
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**{**settings, **plain})


def layout_of(sizes: Sequence[object]) -> str:
    """How a network that takes samples of `sizes` lays out pictures: by where the size of their channels stands.

    Empty for what is no picture; where both ends could be channels, channels first is assumed.

    >>> layout_of((3, 224, 224)), layout_of((224, "w", 3)), layout_of((3, 224, 3)), layout_of((64, 7, 7))
    ('NCHW', 'NHWC', 'NCHW', '')
    """
    if len(sizes) != 3 or not {sizes[0], sizes[2]} & set(CHANNELS):
        return ""
    return "NCHW" if sizes[0] in CHANNELS else "NHWC"


def to_channels(image: Array, channels: int) -> Array:
    """(H, W, channels) of an image (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8, or float32 levels of 0..255."""
    image = image[:, :, None] if image.ndim == 2 else image
    if image.shape[2] not in (1, 3, 4):
        raise BadInput(f"image: {image.shape[2]} channels; 1, 3 and 4 are known")
    if channels == 1 and image.shape[2] > 1 and image.dtype == np.float32:
        red, green, blue = (image[:, :, i] * np.float32(_LUMA[i] / 65536) for i in range(3))
        return np.asarray((red + green + blue)[:, :, None])
    if channels == 1 and image.shape[2] > 1:
        return ((image[:, :, :3] @ _LUMA + 0x8000) >> 16).astype(np.uint8)[:, :, None]
    if channels == 3 and image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return image[:, :, :channels]


def shorter_side(size: tuple[int, ...], target: int) -> tuple[int, int]:
    """(H, W) whose shorter side is `target`, the longer one cut to a whole number, as torchvision's Resize does.

    >>> shorter_side((375, 500), 256)
    (256, 341)
    """
    height, width = size
    if height <= width:
        return target, int(target * width / height)
    return int(target * height / width), target


def centre(size: tuple[int, int], wanted: tuple[int, int]) -> Cut:
    """Rows and columns of the middle `wanted` (H, W) of an image of `size`, which is no smaller.

    >>> centre((256, 341), (224, 224))
    (slice(16, 240, None), slice(58, 282, None))
    """
    top, left = (round((have - want) / 2) for have, want in zip(size, wanted, strict=True))
    return slice(top, top + wanted[0]), slice(left, left + wanted[1])


def within(size: tuple[int, ...], target: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of an image of `size`, scaled to the largest that fits into `target`; each side one pixel at least.

    >>> within((375, 500), (640, 640)), within((1, 1000), (64, 64))
    ((480, 640), (1, 64))
    """
    scale = min(want / have for want, have in zip(target, size, strict=True))
    high, wide = (max(round(have * scale), 1) for have in size)
    return high, wide


def border(size: tuple[int, ...], target: tuple[int, int], corner: bool) -> tuple[int, int]:
    """Rows above and columns left of an image of `size` in a letterbox of `target`; an odd row or column comes after.

    >>> border((480, 639), (640, 640), False), border((480, 639), (640, 640), True)
    ((80, 0), (0, 0))
    """
    top, left = (0 if corner else (want - have) // 2 for want, have in zip(target, size, strict=True))
    return top, left


def bordered(image: Array, preprocess: Preprocess) -> Array:
    """`image` (h, w, C), no larger than the input, on the border that a letterbox has."""
    top, left = border(image.shape[:2], preprocess.size, preprocess.corner)
    field = np.full((*preprocess.size, image.shape[2]), preprocess.letterbox, image.dtype)
    field[top : top + image.shape[0], left : left + image.shape[1]] = image
    return field


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
