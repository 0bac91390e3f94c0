"""What a model wants of one image: pictures made ready, arrays of its shape, or several inputs; else one line why not.

    x float32 (N, 3, H, W), --input-shape 3,64,64    a picture of 64x64, by the preprocessing that is carried or assumed
    x float32 (N, 2, 16)                             arrays of (2, 16) as they are
    image (N, 3, 8, 8) and meta (N, 4)               an array for each                                    (several.py)

Test: tests/test_material.py.
"""

from __future__ import annotations

from edgecnn.data.pixels import read_preprocess
from edgecnn.data.samples import Ready
from edgecnn.data.several import lost_in, several
from edgecnn.networks.layout import UNKNOWN, Entry
from edgecnn.networks.spec import image_preprocess, preprocess_of
from runtimes.base import BadInput
from runtimes.execution.shapes import fitting
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.several import Several
from runtimes.imaging.shown import sample_shape
from runtimes.session import Session, TensorInfo


def one_at_a_time(session: Session, name: str) -> None:
    """Raise `BadInput` for a model whose batch is fixed at several images."""
    batch = max((info.shape[0] for info in session.inputs if info.shape and isinstance(info.shape[0], int)), default=1)
    if batch > 1:
        raise BadInput(
            f"{name}: takes {batch} images at a time, and no other number; calibration and race give it one: "
            f"{_to_one(session, batch)}export it with a batch of 1, or an open one"
        )


def _to_one(session: Session, batch: int) -> str:
    """The command that makes such a model take one image, where its sizes are fixed; else empty."""
    fixed = [i for i in session.inputs if i.shape and i.shape[0] == batch and all(isinstance(d, int) for d in i.shape)]
    if len(fixed) != len(session.inputs):
        return ""
    named = [f"{info.name}:" if len(fixed) > 1 else "" for info in fixed]
    shapes = [
        f"--input-shape {key}{','.join(map(str, (1, *i.shape[1:])))}" for key, i in zip(named, fixed, strict=True)
    ]
    return f"`edgecnn simplify IN -o OUT {' '.join(shapes)}` changes it where images do not mix; or "


def said(ready: Ready | Several, preprocess: str) -> Preprocess:
    """How `preprocess` makes images of the size that is wanted; raises `BadInput` where no picture is."""
    if isinstance(ready, Several):
        lost = lost_in(ready.inputs)
        way = f"; {lost}" if lost else ""
        raise BadInput(
            f"--preprocess {preprocess}: the model takes {ready.words}, arrays as they are; leave it out{way}"
        )
    if isinstance(ready, Preprocess):
        return read_preprocess(preprocess, (ready.channels, *ready.size), ready.input)
    return read_preprocess(preprocess, sample_shape(ready))


def shaped(session: Session, input_shape: str, known: Preprocess | None, entry: Entry = UNKNOWN) -> Ready:
    """What the model's only input wants at the size `input_shape`, with or without the batch; `BadInput` if unfit."""
    if len(session.inputs) > 1:
        raise BadInput(
            f"--input-shape {input_shape}: the model has several inputs; `edgecnn simplify` fixes their sizes"
        )
    sizes = fitting(input_shape, session.inputs[0])
    if len(sizes) != 3:
        return sizes
    if known is None and session.inputs[0].dtype == "uint8":
        return image_preprocess([TensorInfo("", "uint8", (1, *sizes))], entry) or sizes
    return preprocess_of((sizes[0], sizes[1], sizes[2]), known, entry) or sizes


def usual(session: Session, name: str = "model", entry: Entry = UNKNOWN) -> Ready | Several:
    """What a model that says nothing about its input usually wants: pictures, or arrays of its shape as they are.

    Raises `BadInput`, naming `name`, when its input is of open size, or neither float32 nor a uint8 picture.
    """
    if len(session.inputs) > 1:
        return several(name, session.inputs)
    preprocess = image_preprocess(session.inputs, entry)
    if preprocess is not None and session.inputs[0].dtype == "uint8":
        return preprocess
    if len(session.inputs) == 1 and session.inputs[0].dtype == "float32":
        sizes = session.inputs[0].shape[1:]
        fixed = tuple(size for size in sizes if isinstance(size, int))
        if preprocess is not None or len(fixed) == len(sizes) > 0:
            return preprocess or fixed
    wants = ", ".join(f"{i.name} {i.dtype} {list(i.shape)}" for i in session.inputs)
    raise BadInput(
        f"{name}: takes {wants}; calibration needs float32 numbers or uint8 pictures whose size is fixed but "
        f"for the batch; {_way_out(session)}"
    )


def _way_out(session: Session) -> str:
    dtypes = [info.dtype for info in session.inputs]
    if dtypes == ["float16"]:
        return "this one computes in float16, where int8 cannot start: export it in float32, and quantize that"
    if dtypes == ["uint8"] and all(type(size) is int for size in session.inputs[0].shape[1:]):
        return "these are no pictures of 1 or 3 channels: cut the cast to float32 off, and quantize what is behind"
    return "give --input-shape where the size is open"
