"""Another number of images at a time, for a model that was exported with a fixed batch above or below that.

    x (4, 1, 64, 201)  ->  Reshape to (4, -1)  ->  y (4, 35)          becomes, for a batch of 1,
    x (1, 1, 64, 201)  ->  Reshape to (1, -1)  ->  y (1, 35)

The batch stands in the inputs, in the outputs, and in the constants of Reshape, Expand and Resize: a size that equals
it, or, where batch and time were made one axis, a multiple of it in front. Which constants mean the batch is a guess:
what this makes is nothing until `in_batches` has shown that each image gets the answer that it got in the batch, among
other images and in another place.
Test: tests/test_rebatch.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import onnx

from exporters.graph import Graph, copy_model, free_inputs, is_standard
from exporters.shape_inference import static_shape, tensor_types
from runtimes.base import Array, BadInput, Runner, Tensors

SIZES = {"Reshape": 1, "Expand": 1, "Resize": 3}
"""Which input of an operator holds the sizes of what it makes."""

Shapes = Mapping[str, tuple[int, ...]]
REMEDY = "export it with that batch, or an open one"


def another_batch(model: onnx.ModelProto, shapes: Shapes) -> tuple[int, int] | None:
    """(the batch that is fixed in `model`, the other one that `shapes` ask for); None where they ask for no other.

    Also None where they ask for more than that, which then fits no input.
    """
    pairs = set()
    for value in free_inputs(model):
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
        wanted = shapes.get(value.name)
        if wanted is None or not dims or len(wanted) != len(dims) or not dims[0] or wanted[0] < 1:
            continue
        if all(dim in (None, size) for dim, size in zip(dims[1:], wanted[1:], strict=True)):
            pairs.add((dims[0], wanted[0]))
    (pair,) = pairs if len(pairs) == 1 else [(0, 0)]
    return pair if pair[0] != pair[1] else None


def rebatched(model: onnx.ModelProto, old: int, new: int, name: str = "model") -> onnx.ModelProto:
    """A copy of `model` that takes `new` images at a time where it took `old`; not proven yet.

    Raises `BadInput` naming `name` where an output has no row for each image.
    """
    made = copy_model(model)
    del made.graph.value_info[:]
    for value in made.graph.output:
        sizes = static_shape(value.type.tensor_type) or (0,)
        if sizes[0] != old:
            raise BadInput(f"{name}: output {value.name} has no row for each of {old} images; {REMEDY}")
    for value in (*free_inputs(made), *made.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value == old:
            dims[0].dim_value = new
    return _with_sizes(made, model, old, new)


def _with_sizes(model: onnx.ModelProto, before: onnx.ModelProto, old: int, new: int) -> onnx.ModelProto:
    """`model` (edited) with the batch `new` in the constants that hold sizes, from the input to the output."""
    types, graph = tensor_types(before), Graph(model, copied=False)
    for node in list(model.graph.node):
        place = SIZES.get(node.op_type, 0)
        held = graph.constant(node.input[place]) if place and len(node.input) > place and node.input[place] else None
        if held is None or not is_standard(node, node.op_type) or held.ndim != 1 or not held.size:
            continue
        at_once = static_shape(types.get(node.input[0]))
        follows = node.op_type != "Reshape" or at_once is None or at_once != _now(model, node.input[0])
        sizes = _resized(held, old, new) if follows else held
        if (sizes != held).any():
            graph.set_constant(node, place, sizes, f"{node.input[place]}_batch{new}")
    return model


def _now(model: onnx.ModelProto, name: str) -> tuple[int, ...] | None:
    """The shape of `name` in `model` as far as it was edited; None where it does not fit together yet."""
    try:
        return static_shape(tensor_types(model).get(name))
    except BadInput:
        return None


def _resized(sizes: Array, old: int, new: int) -> Array:
    """`sizes` for a batch of `new`; as they are where they copy their first size, compute it, or do not hold `old`.

    >>> _resized(np.array([4, -1]), 4, 1), _resized(np.array([7, 4, 8]), 4, 1), _resized(np.array([40, 8]), 4, 1)
    (array([ 1, -1]), array([7, 1, 8]), array([10,  8]))
    """
    made, first = sizes.copy(), int(sizes[0])
    where = np.flatnonzero(sizes == old)
    if first < 1:
        return made
    if first == old or len(where) == 1:
        made[0 if first == old else where[0]] = new
    elif first % old == 0:
        made[0] = first // old * new
    return made


def images_for(old: int, new: int) -> int:
    """How many different images show it: whole batches of `old`, and no image twice in a batch of `new`.

    >>> images_for(4, 1), images_for(4, 6), images_for(1, 8)
    (4, 8, 8)
    """
    return -(-new // old) * old


def joined(batches: Sequence[Tensors], each: Collection[str]) -> dict[str, Array]:
    """Feeds one after another as one; inputs outside of `each` belong to no image, and are those of the first."""
    return {
        name: np.concatenate([feeds[name] for feeds in batches]) if name in each else value
        for name, value in batches[0].items()
    }


def in_batches(session: Runner, batch: int, images: int, each: Collection[str], mixed: bool = False) -> Runner:
    """A runner that answers so many `images` by calling `session`, which takes `batch`, until each had its turn.

    `each` names the inputs that hold images. `mixed`: with other neighbours and in other places than one after another.
    """
    order = np.concatenate([np.arange(0, images, 2), np.arange(1, images, 2)]) if mixed else np.arange(images)

    def run(feeds: Tensors) -> dict[str, Array]:
        parts = [
            session({name: value[rows] if name in each else value for name, value in feeds.items()})
            for rows in _turns(order, batch)
        ]
        found = {name: np.concatenate([part[name] for part in parts])[:images] for name in parts[0]}
        places = np.argsort(order)
        return {name: value[places] if len(value) == images else value for name, value in found.items()}

    return run


def _turns(order: Array, batch: int) -> Iterator[Array]:
    """Which images go together, by number: each has its turn, and the last call is filled up from the first.

    >>> [rows.tolist() for rows in _turns(np.arange(4), 3)]
    [[0, 1, 2], [3, 0, 1]]
    """
    for first in range(0, len(order), batch):
        yield order[np.arange(first, first + batch) % len(order)]
