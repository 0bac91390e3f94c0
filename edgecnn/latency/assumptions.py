"""What a measurement assumes, so that it can be said before it begins: sizes that models leave open, made-up inputs.

    open in one model, fixed in another         the other's                     (same_shapes.py)
    open in all of them, and one is a bundle    the size for which it was built
    a detector                                  its time depends on the picture, and it is fed random numbers

Test: tests/test_latency_assumed.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from edgecnn.asked_size import FOR_WHICH, left_open
from edgecnn.latency.fresh_process import inputs_of
from edgecnn.latency.job import TORCH_KINDS, Job
from edgecnn.latency.same_shapes import same_shapes
from runtimes.base import BadInput
from runtimes.comparing.matching import NAMES as DETECTIONS
from runtimes.execution.feeds import TensorInfo, require_sizes
from runtimes.execution.model_file import built_size
from runtimes.execution.shapes import shapes_of

Jobs = Mapping[str, Job]


def sized(groups: list[Jobs]) -> list[Jobs]:
    """Groups of jobs of the same models, each with the sizes that these are measured with; a model alone has its own.

    Raises `BadInput` where the sizes of two models differ.
    """
    if len(groups[0]) == 1:
        return [_at_built_size(group) for group in groups]
    wanted = {}
    for name, job in sorted(groups[0].items(), key=lambda item: item[1].kind in TORCH_KINDS):
        wanted[name] = inputs_of(job)
        if job.kind not in TORCH_KINDS:  # which take seconds to load
            _require(job, wanted[name])
    return [_at_built_size(same_shapes(group, wanted)) for group in groups]


def _require(job: Job, inputs: tuple[TensorInfo, ...]) -> None:
    """Raise `BadInput` for sizes that are asked for and that the file of `job`, which takes `inputs`, does not take."""
    try:
        require_sizes(inputs, shapes_of(job.input_shape, inputs, job.batch))
    except BadInput as error:
        raise BadInput(f"{job.model}: {error}") from error


def _at_built_size(jobs: Jobs) -> Jobs:
    """Bundles of open size, where nothing else says one, at the size for which the first of them was built."""
    undecided = {name: job for name, job in jobs.items() if job.kind not in TORCH_KINDS and not job.input_shape}
    sizes = {name: built_size(Path(job.model), job.batch) for name, job in undecided.items()}
    first = next((text for text in sizes.values() if text), ())
    return {name: replace(job, input_shape=first) if sizes.get(name) else job for name, job in jobs.items()}


def of_sizes(before: Jobs, after: Jobs) -> list[str]:
    """A line for each model whose open size was filled in, by nobody's word; sizes are of one image."""
    lines = []
    for name, job in after.items():
        added = job.input_shape[len(before[name].input_shape) :]
        whose = "as another model of the race takes" if len(after) > 1 else FOR_WHICH
        lines.append(left_open(name, added, "measured", whose))
    return [line for line in lines if line]


def of_pictures(name: str, outputs: Collection[str]) -> str:
    """That the time of a model with such `outputs` depends on what it sees; empty where it does not."""
    if not set(DETECTIONS) <= set(outputs):
        return ""
    return f"{name}: how long a detector takes depends on the picture, and it is fed random numbers"
