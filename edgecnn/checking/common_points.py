"""Make a comparison of two sides: their common tensors as points, the samples that both are fed.

Test: tests/test_diff.py, tests/test_diff_faults.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.checking.comparison import Comparison
from edgecnn.checking.sides import GraphSide, Side
from edgecnn.data.adapting import adapter, other_layout
from edgecnn.data.data_argument import Spec
from edgecnn.data.feeding import make_feeds, own_names
from exporters.layerwise.calls import correspond_calls
from exporters.layerwise.correspond import Pair, correspond, fits, known_shapes, steps_of
from exporters.layerwise.hard_cuts import with_cuts
from exporters.layerwise.partial import Parts
from exporters.layerwise.points import Points, chain, graph_points
from exporters.layerwise.unpadded import channel_counts, padded_names, unpadded
from runtimes.base import BadInput, Tensors, Track
from runtimes.execution.shapes import ShapeText


def compare_sides(
    reference: Side, candidate: Side, feeds: Sequence[Tensors], limit_db: float | None = None
) -> Comparison:
    """The comparison of two sides that take the same inputs (by name, else by place) on `feeds` for the first."""
    names = own_names(reference, candidate)
    if any(name != own for name, own in names.items()):
        candidate.feeds = names
    candidate.adapt = adapter(reference, candidate)
    unpad(reference, candidate)
    points, pairs = common_points(reference, candidate)
    if not pairs:
        raise BadInput(f"{candidate.name}: has no tensor in common with {reference.name}; are these two one network?")
    pairs = cut_off(reference, candidate, pairs)
    comparison = Comparison(reference, candidate, points, pairs, feeds, limit_db)
    comparison.other_layout = other_layout(reference, candidate)
    return comparison


def unpad(reference: Side, candidate: Side) -> None:
    """Give either side, where it is a graph, tensors of the true channels behind those that a rewrite padded."""
    for side, other in ((candidate, reference), (reference, candidate)):
        if isinstance(side, GraphSide) and (wide := padded_names(side.parts)):
            names = {*wide, *wide.values()}
            counts = channel_counts(other.parts, names) if isinstance(other, GraphSide) else {}
            side.filed = side.filed or side.parts
            side.parts = unpadded(side.parts, counts)


def cut_off(reference: Side, candidate: Side, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """`pairs`, those of which an int8 candidate is cut off on purpose with a reference that is so, too."""
    if not (isinstance(reference, GraphSide) and isinstance(candidate, GraphSide)) or not candidate.quantized:
        return pairs
    reference.filed = reference.filed or reference.parts
    reference.parts, pairs = with_cuts(reference.parts, candidate.parts, pairs)
    return pairs


def common_points(reference: Side, candidate: Side) -> tuple[Points, tuple[Pair, ...]]:
    """The common tensors, as points of whichever side is a graph (the candidate's first), and their names."""
    sides = (reference, candidate)
    graphs = [side for side in sides if isinstance(side, GraphSide)]
    if len(graphs) == 2:
        try:
            pairs = correspond(graphs[0].parts, graphs[1].parts)
        except BadInput as error:  # it knows no names
            raise BadInput(f"{candidate.name}, {reference.name}: {error}") from error
        if graphs[1].quantized != graphs[0].quantized or other_layout(reference, candidate):
            pairs = _of_one_shape(graphs[0].parts, graphs[1].parts, pairs)
        by_name = {pair.candidate: pair for pair in _alive(graphs[1].parts, pairs)}
        points = graph_points(graphs[1].parts, list(by_name))
        return points, tuple(by_name[name] for name in points.names)
    calls: list[Any] = [side.calls for side in sides if not isinstance(side, GraphSide)]  # type: ignore[attr-defined]
    if not graphs:
        names = [call.name for call in calls[0] if call.name in {other.name for other in calls[1]}]
        return chain(names), tuple(Pair(name, name, "name") for name in names)
    tensors = correspond_calls(calls[0], graphs[0].parts)
    if graphs[0].quantized or other_layout(reference, candidate):
        tensors = _comparable(tensors, calls[0], graphs[0].parts)
    calls_by_tensor = {tensor: name for name, tensor in tensors.items()}
    points = graph_points(graphs[0].parts, list(calls_by_tensor))
    named = [(calls_by_tensor[name], name) for name in points.names]
    swap = isinstance(reference, GraphSide)
    return points, tuple(Pair(b, a, "module") if swap else Pair(a, b, "module") for a, b in named)


def _comparable(tensors: Mapping[str, str], calls: Sequence[Any], parts: Parts) -> dict[str, str]:
    """`tensors` by the call that made them, without those that a rewrite lays out otherwise, or leaves in 8 bits."""
    made, shapes, steps = {call.name: call.shape for call in calls}, known_shapes(parts), steps_of(parts)
    return {
        name: tensor
        for name, tensor in tensors.items()
        if tensor in parts.outputs or (tensor not in steps and fits(shapes.get(tensor), _open_batch(made[name])))
    }


def _open_batch(shape: Sequence[int]) -> tuple[int | None, ...]:
    """A call was traced with one sample, whatever the graph takes."""
    return (None, *shape[1:])


def _of_one_shape(reference: Parts, candidate: Parts, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """`pairs` without inner tensors that the int8 graph lays out otherwise, beside those that `unpad` made common.

    What follows puts them back, and is compared there. An output of another shape stays: it is another answer.
    """
    ours, theirs = known_shapes(reference), known_shapes(candidate)
    return tuple(
        pair
        for pair in pairs
        if pair.candidate in candidate.outputs or fits(ours.get(pair.reference), theirs.get(pair.candidate))
    )


def _alive(candidate: Parts, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """`pairs` without tensors that no output is made from: tools leave the ends of a Clip that they removed."""
    kept = {name for i in candidate.needed(candidate.outputs) for name in candidate.nodes[i].output}
    return tuple(pair for pair in pairs if pair.candidate in kept or pair.candidate in candidate.outputs)


def make_samples(
    sides: Sequence[Any],
    data: Spec | None,
    samples: int,
    seed: int,
    input_shape: ShapeText | None,
    sift: Track | None = None,
) -> tuple[list[Tensors], str, Sequence[Tensors]]:
    """(feeds of one image for the first of `sides`, what they are in words, what they were drawn from)."""
    feeds, words = make_feeds(sides, data, samples, seed, input_shape, 1, sift)
    made = [dict(feed) for feed, _ in zip(feeds, range(samples), strict=False)]
    return [{name: np.ascontiguousarray(value) for name, value in feed.items()} for feed in made], words, feeds
