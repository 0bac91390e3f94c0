"""What the zoo knows about a network: how to build it, what it eats, what it answers, and the paper it comes from.

A file in `edgecnn/models` ends in a tuple of these records (its variants as data). Nothing here imports torch, so that
the command line can talk about networks without paying for it. Test: tests/test_models.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgecnn.detection.raw import Head
from edgecnn.networks.layout import UNKNOWN, Entry, laid_out
from runtimes.base import BadInput
from runtimes.execution.feeds import TensorInfo
from runtimes.execution.shapes import parse_shape
from runtimes.imaging.preprocess import CHANNELS, FLOAT32_NHWC, UINT8, UINT8_NHWC, Preprocess

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]
"""(channels, height, width) of one picture; (channels, length) of sound; (channels, depth, height, width)."""
PICTURE = 3
"""Axes of a picture (C, H, W)."""


class Beside(str):
    """C,H,W that a file fixes, for the network beside it: one that says channels last takes H,W,C of it."""

    __slots__ = ()


IMAGENET = Preprocess(size=(224, 224), resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Shorter side to 256 pixels, centre crop of 224, channel statistics of ImageNet: what torchvision's weights expect."""


LEVELS = 255
MAX_SIDE = 16384
MAX_ELEMENTS = 1 << 28


def unit_range(height: int, width: int, channels: int = 3) -> Preprocess:
    """Resize to height x width and map grey levels 0..255 to -1..1: the neutral choice for a network trained here."""
    return Preprocess(size=(height, width), channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)


def levels_range(height: int, width: int, channels: int = 3, mean: tuple[float, ...] = (0.0,)) -> Preprocess:
    """Resize to height x width and leave grey levels as they are, float32 of 0..255, less a `mean` in these units."""
    return Preprocess((height, width), channels, mean=tuple(m / LEVELS for m in mean), std=(1 / LEVELS,))


@dataclass(frozen=True)
class ModelSpec:
    """One network of the zoo. `build(num_classes=n)` returns it with fresh weights drawn from torch's generator.

    `epochs`: how often `edgecnn train` shows it the data when nobody says.
    """

    name: str
    build: Callable[..., nn.Module]
    preprocess: Preprocess
    paper: str
    num_classes: int
    task: str = "classification"
    labels: tuple[str, ...] = ()
    epochs: int = 10

    @property
    def input_shape(self) -> Shape:
        return (self.preprocess.channels, *self.preprocess.size)


@dataclass(frozen=True)
class Blueprint:
    """A network before it is built. `build` takes `num_classes` when `classes` (its default) is not None."""

    name: str
    build: Callable[..., nn.Module]
    classes: int | None
    input_shape: Shape | None = None
    preprocess: Preprocess | None = None
    task: str = "classification"
    labels: tuple[str, ...] = ()
    epochs: int = 10
    tasked: bool = False
    """Somebody said its task: the code, or the user."""
    any_channels: bool = False
    """`preprocess` does not say for how many channels it is: the network does."""
    preset: str = ""
    """The name of a preprocessing, to be made for the input's shape, in place of `preprocess`."""
    ours: bool = True
    """Random when built: a network of the zoo or of a library, whose BatchNorm statistics nobody has trained."""
    source: str = ""
    target: Any = None
    """The callable of a user's own code, and `home` the file or module that it stands in."""
    home: Any = None
    answer: str | None = None
    """Which of several outputs counts, by its key or place."""
    decode: Head | None = None
    """What its one answer is, where that is to be decoded to boxes."""
    input_shapes: Mapping[str, Shape] = field(default_factory=dict)
    """Of several inputs, by the names of its forward's parameters."""


def image_shape(given: str | Sequence[int]) -> Shape:
    """(C, H, W) from what users write, with or without the batch and the input's name; raises `BadInput`.

    >>> image_shape("3,224,224"), image_shape("x:[1,3,32,32]"), image_shape((1, 1, 28, 28))
    ((3, 224, 224), (3, 32, 32), (1, 28, 28))
    """
    sizes = without_batch(sizes_in(given), PICTURE)
    if len(sizes) not in (PICTURE, PICTURE + 1):
        raise BadInput(f"input shape {str(given)[:60]}: is not an image's; write C,H,W or 1,C,H,W, as in 3,224,224")
    return sizes[-PICTURE:]


def sizes_in(given: str | Sequence[Any]) -> Shape:
    """The sizes in what users write of an input's shape, as they stand there; raises `BadInput` for what is none.

    >>> sizes_in("x:[1,8000]"), sizes_in((1, 16, 32, 32))
    ((1, 8000), (1, 16, 32, 32))
    """
    sizes = parse_shape(given)[1] if isinstance(given, str) else given
    if not isinstance(sizes, list | tuple) or not 1 <= len(sizes) <= 5 or not all(type(n) is int for n in sizes):
        raise BadInput(
            f"input shape {str(given)[:60]}: is not that of one input; write C,H,W as in 3,224,224, C,L for sound, "
            "C,D,H,W for volumes"
        )
    if min(sizes) < 1 or max(sizes) > MAX_ELEMENTS or math.prod(sizes) > MAX_ELEMENTS:
        raise BadInput(f"input shape {str(given)[:60]}: out of range; at most {MAX_ELEMENTS:,} numbers")
    if len(sizes) >= PICTURE and max(sizes) > MAX_SIDE:
        raise BadInput(f"input shape {str(given)[:60]}: out of range; sizes go from 1 to {MAX_SIDE:,}")
    return tuple(sizes)


def without_batch(sizes: Shape, axes: int) -> Shape:
    """`sizes` of a sample of so many `axes`, which may have been written with a batch of 1.

    >>> without_batch((1, 3, 8, 8), 3), without_batch((1, 16, 8, 8), 4)
    ((3, 8, 8), (1, 16, 8, 8))
    """
    return sizes[1:] if len(sizes) == axes + 1 and sizes[0] == 1 else sizes


def preprocess_for(shape: Shape, like: Preprocess | None = None) -> Preprocess | None:
    """Preprocessing to `shape` (C, H, W) with the statistics of `like`; by default ImageNet's for three channels.

    None where it is no picture, or the channels are not those of one (grey or RGB): such a network is fed ready arrays.
    """
    if len(shape) != PICTURE or shape[0] not in CHANNELS:
        return None
    channels, height, width = shape
    if like is None or like.channels != channels:
        like = IMAGENET if channels == 3 else unit_range(height, width, channels=1)
    return like.at((height, width))


def planes_of(shape: Shape, last: bool) -> Shape:
    """(C, H, W) of the `shape` of a picture, which may have its channels `last`.

    >>> planes_of((16, 24, 3), last=True), planes_of((3, 16, 24), last=False), planes_of((1, 64), last=False)
    ((3, 16, 24), (3, 16, 24), (1, 64))
    """
    return (shape[2], *shape[:2]) if last and len(shape) == PICTURE else shape


def shape_of(planes: Shape, last: bool) -> Shape:
    """The inverse of `planes_of`.

    >>> shape_of((3, 16, 24), last=True)
    (16, 24, 3)
    """
    return (*planes[1:], planes[0]) if last and len(planes) == PICTURE else planes


def preprocess_of(
    sizes: tuple[int, int, int], like: Preprocess | None = None, entry: Entry = UNKNOWN
) -> Preprocess | None:
    """The same for a model that takes samples of `sizes`, (C, H, W) or (H, W, C): laid out as in `like`, else as its
    `entry` or the sizes say. Without `like`, a graph that brings pixels of 0..255 down itself gets these, and channels
    last are taken for TensorFlow's, whose pixels are -1 to 1.
    """
    last = like.channels_last if like is not None else laid_out(sizes, entry.last) == "NHWC"
    height, width, channels = sizes if last else (*sizes[1:], sizes[0])
    if like is None and entry.levels and channels in CHANNELS:
        like = levels_range(height, width, channels)
    if not last:
        return preprocess_for(sizes, like)
    made = preprocess_for((channels, height, width), like or unit_range(height, width, channels))
    return replace(made, input=FLOAT32_NHWC) if made is not None and made.floating else made


def image_preprocess(inputs: Sequence[TensorInfo], entry: Entry = UNKNOWN) -> Preprocess | None:
    """The usual preprocessing of one image input about which nothing is known but its `entry`, (N, 1 or 3, H, W) or
    (N, H, W, 1 or 3); else None. An input of uint8 gets the pixels as they are.
    """
    shape = inputs[0].shape[1:] if len(inputs) == 1 else ()
    sizes = tuple(size for size in shape if isinstance(size, int))
    if len(shape) != 3 or len(sizes) != 3:
        return None
    layout = laid_out(sizes, entry.last)
    if inputs[0].dtype == "uint8" and layout == "NHWC":
        return Preprocess((sizes[0], sizes[1]), sizes[2], input=UINT8_NHWC)
    if inputs[0].dtype == "uint8" and layout:
        return Preprocess((sizes[1], sizes[2]), sizes[0], input=UINT8)
    return preprocess_of((sizes[0], sizes[1], sizes[2]), entry=entry) if layout else None
