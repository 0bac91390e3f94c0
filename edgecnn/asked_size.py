"""A model file at the size that `--input-shape` asks for, where its input leaves height and width open.

    [batch, 1, height, width]  at 1,255,311  ->  [batch, 1, 255, 311], and pictures are made ready for 255 x 311
    [batch, 1, 128, 128]       at 1,255,311  ->  BadInput: the file has one size

Test: tests/test_asked_size.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtimes.base import BadInput
from runtimes.bundle import Bundle, open_bundle
from runtimes.execution.feeds import TensorInfo, require_sizes
from runtimes.execution.model_file import is_bundle, is_model_file
from runtimes.execution.shapes import ShapeText, parse_shape, texts_of, with_batch
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof.sizes import known_step, require_size, step_in
from runtimes.session import Session

FOR_WHICH = "for which it was built"


def left_open(name: str, assumed: Sequence[str], done: str, whose: str) -> str:
    """What was `assumed`, by nobody's word, of the open inputs of the model called `name`; sizes are of one image, and
    where there are none but the batch nothing is said.
    """
    shown = ", ".join("x".join(text.rpartition(":")[2].split(",")[1:]) for text in assumed)
    return f"{name}: leaves the size of its input open: {done} at {shown}, {whose}; see --input-shape" if shown else ""


def asked_shapes(inputs: Sequence[TensorInfo], input_shape: ShapeText | None) -> dict[str, tuple[int, ...]]:
    """The shape asked for of each of `inputs`, with a batch of one where none was given.

    Inputs may have other names than the user knows: those of the model beside it. Then the place counts.
    """
    parsed = [parse_shape(text) for text in texts_of(input_shape)]
    declared = {info.name: info.shape for info in inputs}
    placed = {name: sizes for name, (own, sizes) in zip(declared, parsed, strict=False) if own not in declared}
    found = placed | {name: sizes for name, sizes in parsed if name is not None and name in declared}
    return {name: with_batch(sizes, declared[name], 1) for name, sizes in found.items()}


def at_size(name: str, inputs: Sequence[TensorInfo], input_shape: ShapeText | None) -> tuple[TensorInfo, ...]:
    """`inputs` of the model called `name` with what is open in them as asked, but for the batch.

    Raises `BadInput` for a size that differs from a fixed one.
    """
    shapes = asked_shapes(inputs, input_shape)
    try:
        require_sizes(tuple(inputs), shapes)
    except BadInput as error:  # it knows the input, not the model
        raise BadInput(f"{name}: {error}") from error
    sized = {info.name: (info.shape[0], *shapes[info.name][1:]) for info in inputs if info.name in shapes}
    return tuple(TensorInfo(info.name, info.dtype, sized.get(info.name, info.shape)) for info in inputs)


def pixels_at(preprocess: Preprocess | None, inputs: Sequence[TensorInfo]) -> Preprocess | None:
    """`preprocess` for pictures of the size that the only one of `inputs` has now."""
    sizes = [size for size in inputs[0].shape[1:] if isinstance(size, int)] if len(inputs) == 1 else []
    if preprocess is None or len(sizes) != 3:
        return preprocess
    height, width = sizes[:2] if preprocess.channels_last else sizes[1:]
    return preprocess if preprocess.size == (height, width) else preprocess.at((height, width))


def bundle_at(bundle: Bundle, session: Session, input_shape: ShapeText | None) -> Preprocess | None:
    """How `bundle` has pictures made ready at the size asked for; raises `BadInput` where it does not run at it."""
    if not input_shape:
        return bundle.preprocess
    ready = pixels_at(bundle.preprocess, at_size(str(bundle.path), session.inputs, input_shape))
    if ready is not None and ready != bundle.preprocess:
        require_size(bundle, session, ready, " ".join(texts_of(input_shape)))
    return ready


def steps_of(name: str) -> int | None:
    """In which steps the model file called `name` takes heights and widths, where that is on record."""
    from exporters.artifact import read_stages
    from exporters.load import load_model

    path = Path(name)
    if not is_model_file(name):
        return None
    if is_bundle(path):
        return known_step(open_bundle(path))
    return step_in(stage.note for stage in read_stages(load_model(path)))
