"""Input shapes as people write them: `1,3,224,224`, `x:1,3,224,224`, `x:[1,3,224,224]`, and each without the batch.

Test: tests/test_shapes.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from runtimes import plugins
from runtimes.base import BadInput
from runtimes.execution.feeds import TensorInfo

ShapeText = str | Sequence[str]
"""One shape, or several (one an input)."""
_SHAPE = re.compile(r"(?:(?P<name>.*):)?\s*\[?(?P<sizes>\s*\d+(?:\s*[,x]\s*\d+)*\s*,?\s*)\]?\s*", re.DOTALL)


def parse_shape(text: str) -> tuple[str | None, tuple[int, ...]]:
    """(input name or None, sizes); raises `BadInput` for anything but positive whole numbers.

    >>> parse_shape("1,3,224,224"), parse_shape("image:0:[1, 3, 8, 8]")
    ((None, (1, 3, 224, 224)), ('image:0', (1, 3, 8, 8)))
    """
    found = _SHAPE.fullmatch(text.strip())
    sizes = tuple(int(size) for size in re.findall(r"\d+", found["sizes"])) if found else ()
    if found is None or not sizes or min(sizes) < 1 or max(sizes) >= 2**31:
        raise BadInput(f"{text}: not a shape; write sizes of 1 or more as 1,3,224,224 or NAME:1,3,224,224")
    return (found["name"] or None), sizes


def texts_of(given: ShapeText | None) -> list[str]:
    """Every shape that is given, as text."""
    return [given] if isinstance(given, str) else list(given or ())


def first_shape(given: ShapeText | None) -> str | None:
    """The shape for a network with one input; raises `BadInput` when several are given."""
    texts = texts_of(given)
    if len(texts) > 1:
        raise BadInput(f"{texts[1]}: a second shape, but the network has one input; give one shape")
    return texts[0] if texts else None


def parse_shapes(given: ShapeText | None, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Input name -> sizes for a model whose inputs are `names`; a shape without a name is the first input's.

    Raises `BadInput` for a name that is no input (with the nearest) and for an input that is given twice.
    """
    texts = texts_of(given)
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, sizes = parse_shape(text)
        name = names[0] if name is None else name
        if name not in names:
            raise BadInput(plugins.unknown(name, names, "input"))
        if name in shapes:
            raise BadInput(f"{text}: input {name} has a shape already; give one shape for each input")
        shapes[name] = sizes
    return shapes


def shapes_of(given: ShapeText | None, inputs: Sequence[TensorInfo], batch: int = 1) -> dict[str, tuple[int, ...]]:
    """Input name -> sizes for a model of `inputs`; `batch` in front of those without one.

    >>> shapes_of("3,8,8", [TensorInfo("x", "float32", ("N", 3, "H", "W"))], 4)
    {'x': (4, 3, 8, 8)}
    """
    declared = {info.name: info.shape for info in inputs}
    found = parse_shapes(given, list(declared))
    return {name: with_batch(sizes, declared[name], batch) for name, sizes in found.items()}


def with_batch(sizes: tuple[int, ...], declared: Sequence[int | str | None], batch: int) -> tuple[int, ...]:
    """`sizes` for an input that is `declared`; where no batch was given, `batch` in front, or its own in place of 1."""
    if len(sizes) != len(declared) - 1:
        return sizes
    return (declared[0] if isinstance(declared[0], int) and batch == 1 else batch, *sizes)


def fitting(input_shape: str, wanted: TensorInfo) -> tuple[int, ...]:
    """Sizes of one sample for the input `wanted`: `input_shape`, with or without the batch; `BadInput` if unfit."""
    name, sizes = parse_shape(input_shape)
    sizes = sizes[1:] if len(sizes) == len(wanted.shape) else sizes
    open_or_same = [not isinstance(w, int) or w == s for w, s in zip(wanted.shape[1:], sizes, strict=False)]
    if len(sizes) != len(wanted.shape) - 1 or not all(open_or_same) or name not in (None, wanted.name):
        shape = ", ".join(map(str, wanted.shape))
        raise BadInput(
            f"--input-shape {input_shape}: the model's input {wanted.name} is [{shape}]; give sizes that fit"
        )
    return sizes
