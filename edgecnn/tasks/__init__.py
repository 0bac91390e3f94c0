"""One file, one task: what it means to be right, how two networks agree without labels, and what to learn from.

Contract of a file (imports no torch at the top, so that an .onnx file is judged without it):

    METRIC: str                      what `Score.value` is: "top-1", "mIoU", "mAP@[.5:.95]", "mAP", "R^2", ...
    OUTPUTS: tuple[str, ...]         the outputs of a network for it, in order (by name where it uses these names)
    WANTED: str                      what data without answers for it is told to bring
    has_answers(samples)             whether labelled for this task
    score(runner, samples, input_name, batch=32, track=silent) -> Score         raises BadInput without answers
    drop(reference, candidate, seed=0, track=silent) -> Difference              reference's value - candidate's
    agreement(reference, candidate, feeds, track=silent) -> Agreement | None    share of equal answers, or how far
                                                                                they agree, no labels needed (None:
                                                                                numbers, which SNR compares)

Those that are trained here also have

    RATE: float                      by how much the usual learning rate is multiplied
    SMOOTHED: bool                   whether `loss` makes use of `smoothing`
    answers(samples, picked)         what there is to learn of those samples, for the two below
    augment(images, answers, order, flip) -> images, answers                    float32 (n, C, H, W), moved together
    loss(module, images, answers, smoothing) -> torch scalar                    `module` in training mode

Those of `NUMBERS` also have

    why_not(samples, shape=())       why `samples` have no truth for answers of `shape`; empty where they have

`tasks.load("segmentation")` gives one; `multi_label.py` is the task "multi-label". Test: tests/test_tasks_contract.py.
"other" has no file and no metric of its own: it is judged by SNR.
"""

from __future__ import annotations

import sys
from types import ModuleType

from runtimes import plugins
from runtimes.base import BadInput
from runtimes.proof.answers import EMBEDDING as EMBEDDING
from runtimes.proof.answers import IMAGE as IMAGE
from runtimes.proof.answers import KEYPOINTS as KEYPOINTS
from runtimes.proof.answers import MULTI_LABEL as MULTI_LABEL
from runtimes.proof.answers import REGRESSION as REGRESSION
from runtimes.proof.answers import SEGMENTATION as SEGMENTATION

OTHER = "other"
"""No file of this folder: what answers with anything but scores for each image or pixel, or detections."""
NUMBERS = (REGRESSION, MULTI_LABEL, EMBEDDING, IMAGE, KEYPOINTS, OTHER)
"""Whose answers are no classes, so that `y` of the data is none of theirs either."""


def names() -> list[str]:
    """The tasks that have a file, as users write them."""
    return [name.replace("_", "-") for name in plugins.names(sys.modules[__name__])]


def load(name: str) -> ModuleType:
    """The file of the task `name`; raises `BadInput` with the nearest where there is none."""
    if name not in names():
        raise BadInput(plugins.unknown(name, names(), "task"))
    return plugins.load(sys.modules[__name__], name.replace("-", "_"), "task")


def require(task: str | None, where: str = "--task") -> None:
    """Raise `BadInput` naming `where` for a `task` that does not exist; None was not given."""
    known = (*names(), OTHER)
    if task is not None and task not in known:
        raise BadInput(f"{where}: {plugins.unknown(task, known, 'task')}")
