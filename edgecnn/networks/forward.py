"""What a network takes: one input, or several by the names of `forward`'s parameters.

    forward(self, x)             input_shape  = (3, 64, 64)                             --input-shape 3,64,64
    forward(self, image, meta)   input_shapes = {"image": (3, 64, 64), "meta": (4,)}    --input-shape image:3,64,64 ...

The user's shapes go before those in the code, input by input. Several are fed as they are, float32, in the order of
`forward`. Test: tests/test_forward.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from torch import nn

from edgecnn.networks.axes import axes_of
from edgecnn.networks.spec import PICTURE, Blueprint, Shape, sizes_in, without_batch
from runtimes import plugins
from runtimes.base import BadInput
from runtimes.execution.feeds import TensorInfo
from runtimes.execution.shapes import first_shape, parse_shape
from runtimes.imaging.several import Several

InputShape = str | Sequence[int] | Sequence[str] | Mapping[str, Sequence[int]]
"""One shape, as text or sizes; or several, a text for each that names its input, or a dict by input."""
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def asked_shapes(given: InputShape | None, module: nn.Module) -> tuple[Shape | None, dict[str, Shape]]:
    """(the shape that has no name, those that have one), as the user gave them; raises `BadInput`.

    A single named one may stand for the only input of a network, by whatever name.
    """
    axes = axes_of(module)
    if isinstance(given, Mapping):
        return None, {str(name): without_batch(sizes_in(sizes), axes) for name, sizes in given.items()}
    texts = [given] if isinstance(given, str) else [text for text in given or () if isinstance(text, str)]
    if given is not None and not texts:
        return without_batch(sizes_in(given), axes), {}
    plain = [text for text in texts if parse_shape(text)[0] is None]
    named = [(parse_shape(text)[0] or "", text) for text in texts if text not in plain]
    shapes = {name: without_batch(sizes_in(text), axes) for name, text in named}
    if len(shapes) < len(named):
        twice = next(name for name in shapes if [n for n, _ in named].count(name) > 1)
        raise BadInput(f"--input-shape {twice}: is given twice; give one shape for each input")
    first = first_shape(plain)
    return None if first is None else without_batch(sizes_in(first), axes), shapes


def parameters(module: nn.Module) -> dict[str, bool]:
    """What `forward` can be given by name, and whether it must be; empty where its signature does not say."""
    try:
        found = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {p.name: p.default is p.empty for p in found if p.kind in NAMED}


def taken(plan: Blueprint, module: nn.Module, given: InputShape | None) -> tuple[Shape | None, Several | None]:
    """(the shape of the one input, where the user says it; the several inputs, where there are such).

    Raises `BadInput` for names that `forward` does not have, for inputs without a shape, and for what does not go with
    several inputs.
    """
    plain, named = asked_shapes(given, module)
    known = parameters(module)
    wanted = [name for name, must in known.items() if must]
    shapes = {**plan.input_shapes, **named}
    if len(wanted) < 2 and not plan.input_shapes and _is_one(plain, named, known):
        return next(iter(named.values()), plain), None
    if not shapes:
        raise BadInput(f"{plan.name}: its forward takes {listed(wanted)}; {_way(wanted)}")
    _require_names(plan.name, known, shapes)
    ordered = {name: shapes[name] for name in known if name in shapes}
    if plain is not None:
        whose = next(iter(ordered))
        raise BadInput(f"{plan.name}: takes {listed(ordered)}; say whose shape it is: --input-shape {whose}:SIZES")
    if len(ordered) == 1:
        return next(iter(ordered.values())), None
    found = Several(tuple(TensorInfo(name, "float32", ("batch", *shape)) for name, shape in ordered.items()))
    if plan.preset or plan.preprocess is not None:
        refuse_for(ordered, f"{plan.name}.preprocess")
    return None, found


def refuse_for(inputs: Iterable[str], what: str) -> NoReturn:
    """Raise `BadInput` for `what` is said of one picture, where there are several `inputs`."""
    raise BadInput(f"{what}: is for one picture, and {listed(inputs)} are fed as they are; leave it out")


def listed(names: Iterable[str]) -> str:
    """
    >>> listed(["left", "right", "meta"]), listed(["meta"])
    ('left, right and meta', 'meta')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def picture_of(several: Several) -> Shape:
    """The shape of the first input that may be a picture, else of the first."""
    shapes = list(several.shapes.values())
    return next((shape for shape in shapes if len(shape) == PICTURE), shapes[0])


def _is_one(plain: Shape | None, named: Mapping[str, Shape], known: Mapping[str, bool]) -> bool:
    """Whether one shape at most is given: by no name, by that of the first parameter, or by one that nothing has."""
    return len(named) + (plain is not None) < 2 and not named.keys() & set(list(known)[1:])


def _require_names(name: str, known: Mapping[str, bool], shapes: Mapping[str, Shape]) -> None:
    for given in shapes:
        if given not in known:
            raise BadInput(f"{name}: forward: {plugins.unknown(given, known, 'input')}")
    missing = [wanted for wanted, must in known.items() if must and wanted not in shapes]
    if missing:
        raise BadInput(f"{name}: its forward also takes {listed(missing)}; {_way(missing)}")
    if len(shapes) == 1 and next(iter(shapes)) != next(iter(known)):
        raise BadInput(f"{name}: its first input is {next(iter(known))}; give the shape of that one")


def _way(names: Sequence[str]) -> str:
    texts = " ".join(f"--input-shape {name}:SIZES" for name in names)
    return f"give {texts}, or `input_shapes` on it"
