"""What a user feeds to a network: pictures and arrays, each image made ready for it, and its own pixels kept.

    picture, uint8 or uint16 (H, W[, 1, 3 or 4])   --the bundle's preprocessing-->  what the network is given
    float (C, H, W) or (N, C, H, W)     taken as it is (channels last where the network has them there)
    float (C, L) or (N, C, L), ...      the same, for a network that takes no pictures: its input's own shape
    an array for each input             the same, for a network of several inputs (several.py)

A `.npy` or `.npz` file is the array in it, under the name `x` or `images`; `-` is one of all these from standard input
(piped.py). Test: tests/test_shown.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np

from runtimes.base import Array, BadInput, Tensors, counted
from runtimes.imaging import piped
from runtimes.imaging.answered import OwnSize
from runtimes.imaging.arrays import Rows, read_npy, read_npz
from runtimes.imaging.depth import PLAIN, Look, eight_bits, is_deep
from runtimes.imaging.geometry import Geometry
from runtimes.imaging.images import SUFFIXES, UNREAD, look_at, read_image
from runtimes.imaging.open_sizes import fits, listed
from runtimes.imaging.preprocess import CHANNELS, Preprocess, layout_of
from runtimes.imaging.several import Several

Ready = Preprocess | tuple[int, ...]
"""How images are made ready, or, for a network that takes none, the shape of one sample that is ready as it is."""
IMAGES = ("x", "images")
"""Names of the images in an `.npz`; the first that is there counts."""
FAR = 8
"""So many times the range of what pixels become, on either side: noise does not reach it, floats of 0..255 do."""
ARRAYS = (".npy", ".npz")
PICTURE_AXES = 3
SLIM = 8
"""No picture is narrower, unless the network's own are: a last axis below it holds channels, or is a mistake."""


@dataclass(frozen=True)
class Shown:
    """One image to be answered: `ready` for the network, and its own `pixels`, uint8 (H, W) or (H, W, 3).

    `others`: what the further inputs of a network that has several are fed, by their names. `look`: what there is to
    the picture besides. `doubt`: what should be heard of how its array was read.
    """

    name: str
    ready: Callable[[], Array]
    original: Callable[[], Array] | None
    preprocess: Preprocess | None
    others: Mapping[str, Callable[[], Array]] = field(default_factory=dict)
    look: Callable[[], Look] = lambda: PLAIN
    doubt: str = ""

    def feeds(self, inputs: Sequence[str]) -> Tensors:
        """A batch of it for the network's `inputs`; raises `BadInput` where it cannot be read."""
        return {inputs[0]: self.ready()[None], **{name: make()[None] for name, make in self.others.items()}}

    def geometry(self) -> Geometry:
        if self.original is None or self.preprocess is None:
            height, width = (1, *self._planes().shape)[-2:]
            return Geometry.same((height, width))
        height, width = self.original().shape[:2]
        return Geometry.of(self.preprocess, (height, width))

    def part(self) -> Sequence[float]:
        """How much of the height and width that the network is given is of the image, and not of padding."""
        if self.original is None or not isinstance(self.preprocess, OwnSize):
            return 1, 1
        size = self.original().shape[:2]
        return list(np.divide(size, self.preprocess.padded(size)))

    def pixels(self) -> Array:
        """Of an image that came ready for the network, its values stretched to what can be seen."""
        if self.original is not None:
            return self.original()
        values = self._planes()
        low, high = float(values.min()), float(values.max())
        grey = np.rint((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
        return grey.transpose(1, 2, 0)[:, :, : 3 if len(grey) >= 3 else 1]

    def _planes(self) -> Array:
        """What the network is given, (C, H, W); of several inputs the first that is a picture."""
        values = self.ready() if not self.others else self._picture()
        return values.transpose(2, 0, 1) if self.preprocess is not None and self.preprocess.channels_last else values

    def _picture(self) -> Array:
        made = (make() for make in (self.ready, *self.others.values()))
        found = next((values for values in made if values.ndim == PICTURE_AXES), None)
        if found is None:
            raise BadInput(f"{self.name}: none of the inputs is a picture, which the answer could be drawn on")
        return found


def takes(path: Path) -> bool:
    """Whether `of_file` knows what to do with a file of this name."""
    return path.suffix.lower() in (*ARRAYS, *SUFFIXES, *UNREAD) or str(path) in piped.NAMES


def of_file(path: Path, ready: Ready | Several, network: str) -> Sequence[Shown]:
    """Every image in a picture, `.npy` or `.npz` file, for `network`; raises `BadInput` for what is none."""
    if isinstance(ready, Several):
        return of_arrays(str(path), _arrays_in(path, ready), ready)
    suffix = path.suffix.lower()
    if str(path) in piped.NAMES:
        return of_array(str(path), piped.read_piped(str(path), images_in, white_of(ready)), ready)
    if suffix in (*SUFFIXES, *UNREAD):
        if not isinstance(ready, Preprocess):
            raise BadInput(f"{path}: is a picture; {no_pictures(ready, network)}; give float arrays as .npy")
        return Rows(1, lambda _: of_picture(path, ready))
    if suffix == ".npz":
        return of_array(str(path), images_in(read_npz(path), path), ready)
    if suffix == ".npy":
        return of_array(str(path), read_npy(path), ready)
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; give the files in it")
    what = "pictures and .npy or .npz files" if isinstance(ready, Preprocess) else ".npy and .npz files"
    raise BadInput(f"{path}: unknown kind of data; {what} are read")


def of_picture(path: Path, ready: Preprocess) -> Shown:
    white = ready.white
    read = cache(partial(read_image, path, white))
    return Shown(
        str(path), lambda: ready(read()), lambda: eight_bits(read(), white), ready, look=partial(look_at, path, white)
    )


def white_of(ready: Ready | Several) -> int | None:
    return ready.white if isinstance(ready, Preprocess) else None


def of_array(name: str, array: Array, ready: Ready) -> Sequence[Shown]:
    """Every image in `array`, called `name[i]`, or `name` where it is one; raises `BadInput` when it does not fit."""
    single = is_single(array, ready)
    images = array[None] if single else array
    read = reader(name, images, ready, array.shape)
    white = white_of(ready)
    original = (lambda i: eight_bits(np.asarray(images[i]), white)) if is_pixels(images) else None
    preprocess = ready if isinstance(ready, Preprocess) else None
    doubt = "" if single else channels_first(name, array, ready)

    def make(i: int) -> Shown:
        one = name if single else f"{name}[{i}]"
        return Shown(
            one, lambda: finite(read(i), one), original and partial(original, i), preprocess,
            look=partial(look_into, images, i), doubt=doubt,
        )  # fmt: skip

    return Rows(len(images), make)


def is_pixels(images: Array) -> bool:
    """Whether `images` are made ready: pixels of 8 or of 16 bits."""
    return images.dtype == np.uint8 or is_deep(images.dtype)


def look_into(images: Array, i: int) -> Look:
    """What there is to image `i` of `images` besides its pixels."""
    return Look(peak=int(images[i].max())) if is_deep(images.dtype) else PLAIN


def of_arrays(name: str, arrays: Mapping[str, Array], wanted: Several) -> Sequence[Shown]:
    """Every sample in `arrays`, one for each input, called as `of_array` does; raises `BadInput` where one is missing
    or does not fit.
    """
    single = wanted.is_one(arrays)
    rows = wanted.rows(name, arrays, one=True)
    first, *more = wanted.names

    def make(i: int) -> Shown:
        one = name if single else f"{name}[{i}]"

        def reading(key: str) -> Callable[[], Array]:
            return lambda: finite(rows[key][i], f"{one}: {key}")

        return Shown(one, reading(first), None, None, {key: reading(key) for key in more})

    return Rows(len(rows[first]), make)


def _arrays_in(path: Path, wanted: Several) -> Mapping[str, Array]:
    """The arrays of an `.npz` file or from standard input."""
    piping = str(path) in piped.NAMES
    if not piping and path.suffix.lower() == ".npz":
        return read_npz(path)
    found = piped.read_piped(str(path), lambda arrays, _: arrays) if piping else None
    if isinstance(found, Mapping):
        return found
    raise BadInput(f"{path}: the model takes {wanted.words}; give an .npz file with an array for each")


def is_single(array: Array, ready: Ready) -> bool:
    """Whether `array` is one sample: of as many axes as the network eats, or pixels (H, W) or (H, W, 1, 3 or 4)."""
    if array.dtype.kind == "f" or not isinstance(ready, Preprocess):
        return array.ndim == len(sample_shape(ready))
    known = (3, 4) if ready.size[1] == 1 else (1, 3, 4)  # where pictures are 1 wide, (N, H, 1) is a stack of them
    return array.ndim == 2 or (array.ndim == 3 and array.shape[2] in known)


def is_slim(shape: Sequence[int], ready: Preprocess) -> bool:
    """Whether a stack (N, H, W) of `shape` would be of pictures too narrow to be meant, for a network of wider ones.

    >>> ready = Preprocess((32, 32))
    >>> is_slim((120, 160, 2), ready), is_slim((99, 8, 8), ready), is_slim((99, 7, 5), ready)
    (True, False, False)
    """
    return len(shape) == PICTURE_AXES and shape[2] < SLIM <= min(shape[1], ready.size[1])


def channels_first(name: str, array: Array, ready: Ready) -> str:
    """The line for a stack of 1 or 3 grey pictures that may be one with its channels first; empty for any other."""
    if not isinstance(ready, Preprocess) or ready.channels == 1 or array.ndim != PICTURE_AXES or not is_pixels(array):
        return ""
    count, height, width = array.shape
    if count not in (1, 3) or min(height, width) < SLIM:
        return ""
    greys = counted(count, "grey picture")
    return f"{name}: taken as {greys} of {height} x {width}; a colour picture is (H, W, 3)"


def images_in(arrays: Mapping[str, Array], path: Path) -> Array:
    """The images among the `arrays` of the file `path`; raises `BadInput` where none has their name."""
    images = next((arrays[name] for name in IMAGES if name in arrays), None)
    if images is None:
        held = ", ".join(sorted(arrays)[:5]) or "no arrays"
        raise BadInput(f"{path}: holds {held}; name the images `x` (and their labels `y`)")
    return images


def reader(
    name: str, images: Array, ready: Ready, shape_given: tuple[int, ...] | None = None
) -> Callable[[int], Array]:
    """Index -> what the network eats, of pixels (N, H, W) or (N, H, W, 1|3|4), or an array that it eats as it is.

    Raises `BadInput` when `images` are neither. `shape_given`, where one sample may come without the batch, is the
    shape that the user knows.
    """
    shape = sample_shape(ready)
    floats = not isinstance(ready, Preprocess) or ready.dtype == np.float32
    if floats and images.dtype.kind == "f" and images.ndim > 1 and fits(images.shape[1:], shape):
        return lambda i: _float32(images[i])
    held = f"{name}: is {images.dtype} {list(images.shape if shape_given is None else shape_given)}"
    if not isinstance(ready, Preprocess):
        one = "" if shape_given is None else f"{listed(shape)} or "
        raise BadInput(f"{held}; this network needs float {one}{_batch_of(shape)}")
    if not floats and images.dtype == np.uint8 and images.ndim == 4 and images.shape[1:] == shape:
        return lambda i: np.array(images[i], order="C")
    if is_pixels(images) and is_slim(images.shape, ready):
        one = "" if shape_given is None else "(H, W) or (H, W, 1, 3 or 4), a batch "
        what = f"no picture is {images.shape[2]} wide; give {one}(N, H, W) or (N, H, W, 1, 3 or 4)"
        raise BadInput(f"{held}, and {what}")
    if is_pixels(images) and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3, 4))):
        return lambda i: ready(np.asarray(images[i]))
    wanted = f"float {_batch_of(shape)} or " if floats else ""
    raise BadInput(f"{held}; this network needs {wanted}uint8 or uint16 images (N, H, W[, 3])")


def no_pictures(shape: tuple[int, ...], network: str = "this network") -> str:
    """Why pictures are not made into samples of `shape`.

    >>> no_pictures((32, 32, 3)), no_pictures((7,))
    ('this network takes floats with channels last, [N, 32, 32, 3], and does not say how pictures become these', \
'this network takes [N, 7], no pictures')
    >>> no_pictures((1, 40, 98))
    'this network takes floats, [N, 1, 40, 98], and does not say how pictures become these'
    """
    sizes = _batch_of(shape)
    if layout_of(shape) == "NHWC":
        return f"{network} takes floats with channels last, {sizes}, and does not say how pictures become these"
    if len(shape) == 3 and shape[0] in CHANNELS:
        return f"{network} takes floats, {sizes}, and does not say how pictures become these"
    return f"{network} takes {sizes}, no pictures"


def _batch_of(shape: tuple[int, ...]) -> str:
    return listed(("N", *shape))


def sample_shape(ready: Ready) -> tuple[int, ...]:
    """Shape of one sample as the network eats it."""
    return ready.shape if isinstance(ready, Preprocess) else ready


def finite(value: Array, name: str) -> Array:
    """`value`; raises `BadInput` naming the sample `name` where it holds NaN or infinity."""
    if not np.isfinite(value).all():
        raise BadInput(f"{name}: holds NaN or infinity; mend or remove it")
    return value


def beyond_pixels(name: str, low: float, high: float, preprocess: Preprocess, where: str) -> str:
    """The line for floats from `low` to `high` that are far from what `preprocess` makes of pixels; else empty.

    0..1 becomes -2.1 to 2.6 by ImageNet's statistics, of width 4.7: what is beyond -40 and 40 was not normalized.
    """
    least, most = preprocess.bounds
    room = FAR * (most - least)
    if least - room <= low and high <= most + room:
        return ""
    return (
        f"{name}: holds {low:.4g} to {high:.4g}, pixels become {least:.2g} to {most:.2g} {where}; "
        "of pictures give uint8 pixels, which are made ready, or normalize them; other numbers are right as they are"
    )


def _float32(value: Array) -> Array:
    with np.errstate(over="ignore"):  # an overflow becomes infinity, which `finite` refuses by name
        return np.array(value, np.float32, order="C")
