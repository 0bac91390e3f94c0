"""What two models under comparison are fed: images or arrays, or seeded inputs in every size that both leave open.

    shape of both          feeds
    3 x 32 x 32, N open    8 of the batch that was asked for, one batch of 3
    3 x H x W, N open      8 of --input-shape, a batch of 3, one of another height and width

Which inputs: edgecnn/data/seeded.py; where one is int8 the images that it was made with, if these are known
(edgecnn/data/calibration_images.py), in every size. Test: tests/test_feeding.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgecnn.data.adapting import adapter, like_first
from edgecnn.data.calibration_images import known_samples
from edgecnn.data.data_argument import Spec
from edgecnn.data.resized import in_shape
from edgecnn.data.samples import Feeds, Ready, Samples
from edgecnn.data.seeded import seeded_feeds, words_for
from edgecnn.data.several import several
from edgecnn.networks.spec import Beside
from edgecnn.runners import Fed
from runtimes.base import Array, BadInput, Tensors, Track
from runtimes.execution.feeds import TensorInfo
from runtimes.execution.model_file import is_model_file
from runtimes.execution.shapes import ShapeText, parse_shapes, with_batch
from runtimes.imaging.open_sizes import OPEN
from runtimes.imaging.preprocess import layout_of
from runtimes.imaging.several import Several

if TYPE_CHECKING:
    from edgecnn.given_model import Source

RANDOM_BATCHES = 8
MOST_KNOWN = 32
"""Images of what an int8 model was calibrated on."""
ANOTHER_BATCH = 3


def make_feeds(
    subjects: Sequence[Fed],
    data: Spec | None,
    limit: int | None,
    seed: int,
    input_shape: ShapeText | None,
    batch: int,
    sift: Track | None = None,
) -> tuple[Sequence[Tensors], str]:
    """(batches for the first of `subjects`, what they are in words). `sift`: see `load_data`."""
    inputs, batch = subjects[0].inputs, min(batch, limit or batch)
    if data is not None:
        from edgecnn.data.load import load_data

        samples = load_data(data, _ready(subjects, input_shape, batch), limit=limit, seed=seed, sift=sift)
        _require_pixels(subjects, samples)
        return samples.feeds(inputs[0].name, batch), samples.name
    require_common(subjects)
    sizes = _shapes(subjects, input_shape, batch)
    asked = next((shape[1:] for shape in sizes.values()), None)
    seen = known_samples(subjects, limit or MOST_KNOWN, seed, asked)
    if seen is not None:
        return seen.feeds(inputs[0].name, next((shape[0] for shape in sizes.values()), batch)), seen.name
    shapes = {info.name: _tightest(subjects, i) for i, info in enumerate(inputs)}
    fitted = tuple(type(info)(info.name, info.dtype, shapes[info.name]) for info in inputs)
    try:
        feeds = [seeded_feeds(subjects, fitted, batch, seed + i, sizes) for i in range(limit or RANDOM_BATCHES)]
    except BadInput as error:  # it knows the input, not the model
        raise BadInput(f"{subjects[0].name}: {error}") from error
    return feeds, words_for(subjects, feeds[0], seed)


def _require_pixels(subjects: Sequence[Fed], samples: Samples) -> None:
    """Raise `BadInput` for floats that are fed as they are where one of two models takes pixels."""
    for other in subjects[1:]:
        takes_pixels = other.preprocess is not None and not other.preprocess.floating
        if samples.as_is and takes_pixels and adapter(subjects[0], other) is not None and samples[0].dtype.kind == "f":
            raise BadInput(
                f"{samples.name}: holds floats, {other.name} takes uint8 pixels; give pictures, or uint8 arrays"
            )


class Taking(Protocol):
    """A model by its name and what it takes."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...


def _ready(subjects: Sequence[Fed], input_shape: ShapeText | None, batch: int) -> Ready | Several:
    """How data becomes the inputs of the first of `subjects`, in the sizes asked for or that another fixes."""
    inputs = subjects[0].inputs
    first, *more = inputs or (None,)
    preprocess = next((s.preprocess for s in subjects if s.preprocess is not None), None)
    if more:
        asked = _shapes(subjects, input_shape, batch)
        sizes = [asked.get(info.name) or _tightest(subjects, i) for i, info in enumerate(inputs)]
        fixed = [TensorInfo(i.name, i.dtype, shape) for i, shape in zip(inputs, sizes, strict=True)]
        return several(subjects[0].name, fixed)
    if first is None:
        return ready_shape(subjects[0].name, inputs)
    if preprocess is not None:
        return preprocess
    shape = _shapes(subjects, input_shape, batch).get(first.name) or _tightest(subjects, 0)
    return ready_shape(subjects[0].name, [TensorInfo(first.name, first.dtype, shape)])


def ready_shape(name: str, inputs: Sequence[TensorInfo]) -> Ready | Several:
    """What one sample is for a model that takes no pictures: what is open in it every array has its own.

    Raises `BadInput` where pictures of open size may be meant.
    """
    if len(inputs) > 1:
        return several(name, inputs)
    first = inputs[0] if len(inputs) == 1 and inputs[0].dtype == "float32" else None
    sizes = tuple(size if isinstance(size, int) else OPEN for size in first.shape[1:]) if first else ()
    if first is None or (OPEN in sizes and (len(sizes) == 1 or layout_of(sizes))):
        wants = ", ".join(f"{info.name} {info.dtype} {list(info.shape)}" for info in inputs)[:150] or "nothing"
        way = "give another model" if first is None else "give --input-shape"
        raise BadInput(f"{name}: takes {wants}; data fits a float32 input of known size, {way}")
    return sizes


def own_names(reference: Taking, candidate: Taking) -> dict[str, str]:
    """An input of `reference` -> the one of `candidate` that gets the same: of that name, else at that place.

    Raises `BadInput` where one of the two takes more.
    """
    ours, theirs = ([info.name for info in fed.inputs] for fed in (reference, candidate))
    if len(ours) != len(theirs):
        takes = f"takes {', '.join(theirs) or 'nothing'}, {reference.name} {', '.join(ours) or 'nothing'}"
        raise BadInput(f"{candidate.name}: {takes}; compare models with the same inputs")
    return dict(zip(ours, ours if set(ours) == set(theirs) else theirs, strict=True))


def _shapes(subjects: Sequence[Fed], input_shape: ShapeText | None, batch: int) -> dict[str, tuple[int, ...]]:
    """Sizes by the first subject's input names; an input may have another's name, and no batch."""
    names = [info.name for info in subjects[0].inputs]
    alias = {info.name: name for s in subjects[1:] for info, name in zip(s.inputs, names, strict=False)}
    alias |= {name: name for name in names}  # two models may use one name at different places: the first decides
    found = parse_shapes(input_shape, [*names, *(name for name in alias if name not in names)])
    declared = {info.name: info.shape for info in subjects[0].inputs}
    given = {alias[name]: sizes for name, sizes in found.items()}
    return {name: with_batch(sizes, declared[name], batch) for name, sizes in given.items()}


def fixed_shape(path: Path) -> Beside | None:
    """The size (C, H, W) to which the one input of the model in `path` is fixed, as text; None where it is open."""
    from edgecnn.opened import lenient_model
    from edgecnn.runners import graph_inputs

    inputs = graph_inputs(lenient_model(path))
    sizes = inputs[0].shape[1:] if len(inputs) == 1 and len(inputs[0].shape) == 4 else ()
    if not sizes or not all(type(size) is int for size in sizes):
        return None
    sizes = (sizes[2], sizes[0], sizes[1]) if layout_of(sizes) == "NHWC" else sizes
    return Beside(",".join(map(str, sizes)))


def shapes_for(sources: Sequence[Source], input_shape: ShapeText | None) -> list[ShapeText | None]:
    """For each of `sources` the `input_shape`, or without one what a PyTorch network must be built for: the fixed size
    of the file beside it, which a network of channels last takes turned (`Beside`).
    """
    files = [source for source in sources if isinstance(source, str) and is_model_file(source)]
    if input_shape or len(files) != 1:
        return [input_shape for _ in sources]
    fixed = fixed_shape(Path(files[0]))
    return [None if source is files[0] else fixed for source in sources]


def require_common(subjects: Sequence[Fed]) -> None:
    """Raise `BadInput` where two subjects fix an input to different sizes."""
    first = subjects[0]
    for other in subjects[1:]:
        inputs = like_first(first, other)
        own = {info.name: info for info in inputs}
        for ours, beside in zip(first.inputs, inputs, strict=False):
            theirs = own.get(ours.name, beside)
            if len(ours.shape) == len(theirs.shape) and any(
                a != b for a, b in zip(ours.shape, theirs.shape, strict=True) if type(a) is int and type(b) is int
            ):
                raise BadInput(
                    f"{other.name}: its input {theirs.name} is {_sizes(theirs.shape)}, that of {first.name} "
                    f"{_sizes(ours.shape)}; give --input-shape for a size that both take"
                )


def _sizes(shape: Sequence[int | str | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _tightest(subjects: Sequence[Fed], index: int) -> tuple[int | str | None, ...]:
    """The shape of input `index` with every size that any of the subjects fixes."""
    shapes = [like_first(subjects[0], s)[index].shape for s in subjects if index < len(s.inputs)]
    if len({len(shape) for shape in shapes}) > 1:
        return shapes[0]
    return tuple(next((d for d in dims if isinstance(d, int)), dims[0]) for dims in zip(*shapes, strict=True))


def with_other_sizes(
    subjects: Sequence[Fed], feeds: Sequence[Tensors], seed: int, limit: int | None = None
) -> tuple[Sequence[Tensors], list[Tensors]]:
    """(`feeds`, those of other sizes that the subjects leave open), together of at most `limit` images."""
    return within(limit, feeds, alike(other_sizes(subjects, feeds[0], seed), feeds))


def within(
    limit: int | None, feeds: Sequence[Tensors], others: Sequence[Tensors]
) -> tuple[Sequence[Tensors], list[Tensors]]:
    """(`feeds`, `others`), together of at most `limit` images: of the others those with room beside one feed."""
    if limit is None:
        return feeds, list(others)
    each, *more = (len(next(iter(feed.values()))) for feed in (feeds[0], *others))
    room, kept = limit - each, []
    for other, images in zip(others, more, strict=True):
        if images <= room:
            kept.append(other)
            room -= images
    return feeds[: 1 + max(room, 0) // each], kept


def other_sizes(subjects: Sequence[Fed], like: Tensors, seed: int) -> list[Tensors]:
    """Feeds of other sizes than `like`, for what both subjects leave open: another batch, another height and width."""
    tight = {info.name: _tightest(subjects, i) for i, info in enumerate(subjects[0].inputs)}
    wanted: list[dict[str, tuple[int, ...]]] = [{}, {}]
    for name, shape in tight.items():
        given = like[name].shape
        wanted[0][name] = tuple(ANOTHER_BATCH if i == 0 and _open(shape[0]) else d for i, d in enumerate(given))
        space = (1, 2) if layout_of(shape[1:]) == "NHWC" else range(2, len(given))
        wanted[1][name] = tuple(another(d) if i in space and _open(shape[i]) else d for i, d in enumerate(given))
    fitted = tuple(type(info)(info.name, info.dtype, tight[info.name]) for info in subjects[0].inputs)
    same = {name: value.shape for name, value in like.items()}
    return [seeded_feeds(subjects, fitted, 1, seed, sizes) for sizes in wanted if sizes != same]


def alike(others: Sequence[Tensors], feeds: Sequence[Tensors]) -> list[Tensors]:
    """`others`, which were made up; from the images of `feeds` where these are known."""
    if not isinstance(feeds, Feeds):
        return list(others)
    known = feeds.samples.feeds(feeds.input_name, ANOTHER_BATCH)[0]
    return [{name: _like(known[name], value) for name, value in given.items()} for given in others]


def _like(known: Array, made: Array) -> Array:
    """`known` inputs in the shape of `made`, which stays where they do not fit it."""
    try:
        return np.resize(in_shape(known, made.shape[1:]), made.shape)
    except BadInput:
        return made


def _open(size: int | str | None) -> bool:
    return not isinstance(size, int)


def another(size: int) -> int:
    """A larger size, of which halves and quarters are whole as often as those of `size`.

    >>> another(64), another(33)
    (96, 42)
    """
    return size + 32 if size % 32 == 0 else size + size // 4 + 1
