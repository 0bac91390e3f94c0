"""Models that are raced are fed the same sizes: what is open in one comes from another, what is fixed must agree.

    a  [N, 3, 64, 64]      b  [N, 3, H, W]         b is fed 1,3,64,64
    a  [N, 3, 64, 64]      b  [N, 3, 224, 224]     refused: the ratio would be of the sizes, not of the models

Inputs are the same where their names are, or where each model has one input, and their ranks agree. Pixels as
(N, H, W, C) are the same as (N, C, H, W). The batch is the race's and never taken from a model.
Test: tests/test_same_shapes.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from edgecnn.latency.job import TORCH_KINDS, Job
from runtimes.base import BadInput
from runtimes.execution.feeds import TensorInfo
from runtimes.execution.shapes import shapes_of

Sizes = tuple[int | None, ...]
"""None is open."""
ORDERS = ((0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2))
"""As it is, channels last, channels first."""


def same_shapes(jobs: Mapping[str, Job], wanted: Mapping[str, Sequence[TensorInfo]]) -> dict[str, Job]:
    """`jobs` with sizes for inputs that are open, where another model has them; `wanted` are their inputs as declared.

    Raises `BadInput` where two models' sizes differ.
    """
    sizes = {name: _given(job, wanted[name]) for name, job in jobs.items()}
    filled = {name: {key: _filled(key, name, sizes) for key in own} for name, own in sizes.items()}
    fixed_first = sorted(jobs, key=lambda name: sizes[name] != filled[name])
    for one, other in itertools.combinations(fixed_first, 2):
        _agree(one, other, filled)
    return {name: _told(job, sizes[name], filled[name]) for name, job in jobs.items()}


def _given(job: Job, inputs: Sequence[TensorInfo]) -> dict[str, Sizes]:
    """Sizes by input: those the user gave, else those declared, with the batch of the race where it is open."""
    asked = {} if job.kind in TORCH_KINDS else shapes_of(job.input_shape, inputs, job.batch)
    declared = {
        info.name: tuple(d if isinstance(d, int) else None if axis else job.batch for axis, d in enumerate(info.shape))
        for info in inputs
    }
    return {**declared, **asked}


def _filled(key: str, name: str, sizes: Mapping[str, Mapping[str, Sizes]]) -> Sizes:
    """The sizes of input `key` of model `name`, what is open in it from the first other model that fits."""
    mine = sizes[name][key]
    for other in sizes:
        for theirs in _orders(_partner(key, sizes[name], sizes[other])) if other != name and None in mine else ():
            if len(theirs) == len(mine) and all(a in (None, b) for a, b in zip(mine[1:], theirs[1:], strict=True)):
                mine = (mine[0], *theirs[1:])
                break
    return mine


def _partner(key: str, mine: Mapping[str, Sizes], theirs: Mapping[str, Sizes]) -> Sizes | None:
    """The same input in another model: of the same name, or each model's only one."""
    if key in theirs:
        return theirs[key]
    return next(iter(theirs.values())) if len(mine) == len(theirs) == 1 else None


def _orders(sizes: Sizes | None) -> Iterator[Sizes]:
    if sizes is not None and len(sizes) == 4:
        yield from (tuple(sizes[axis] for axis in order) for order in ORDERS)
    elif sizes is not None:
        yield sizes


def _agree(one: str, other: str, sizes: Mapping[str, Mapping[str, Sizes]]) -> None:
    for key, mine in sizes[one].items():
        theirs = _partner(key, sizes[one], sizes[other])
        if theirs is None or len(theirs) != len(mine) or None in mine or None in theirs or mine in _orders(theirs):
            continue
        advice = (
            f"give --batch {max(mine[0] or 1, theirs[0] or 1)}, or export both alike"
            if mine[1:] == theirs[1:]
            else "run or export both with one --input-shape"
        )
        raise BadInput(
            f"{other}: input {'x'.join(map(str, theirs))}, but {one}: {'x'.join(map(str, mine))}; "
            f"a comparison needs the same: {advice}"
        )


def _told(job: Job, before: Mapping[str, Sizes], after: Mapping[str, Sizes]) -> Job:
    """`job` with a text for each input that was open."""
    texts = (f"{key}:{','.join(map(str, s))}" for key, s in after.items() if None in before[key] and None not in s)
    return replace(job, input_shape=(*job.input_shape, *texts))
