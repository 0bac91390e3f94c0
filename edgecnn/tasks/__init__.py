"""One file, one task: what it means to be right, how two networks agree without labels, and what to learn from.

Contract of a file (imports no torch at the top, so that an .onnx file is judged without it):

    METRIC: str                      what `Score.value` is: "top-1", "mIoU", "mAP@[.5:.95]"
    RATE: float                      by how much the usual learning rate is multiplied
    OUTPUTS: tuple[str, ...]         the outputs of a network for it, in order (by name where it uses these names)
    WANTED: str                      what data without answers for it is told to bring
    has_answers(samples)             whether labelled for this task
    score(runner, samples, input_name, batch=32, track=silent) -> Score         raises BadInput without answers
    drop(reference, candidate, seed=0) -> Difference                            reference's value - candidate's
    agreement(reference, candidate, feeds, track=silent) -> Agreement           share of equal answers, no labels needed
    answers(samples, picked)         what there is to learn of those samples, for the two below
    augment(images, answers, order, flip) -> images, answers                    float32 (n, C, H, W), moved together
    loss(module, images, answers, smoothing) -> torch scalar                    `module` in training mode

`plugins.load(edgecnn.tasks, "segmentation", "task")` gives one. Test: tests/test_tasks_contract.py.

Tasks without a file have no metric of their own and are judged by SNR: numbers (poses, ages, embeddings), labels that
do not exclude each other (several sigmoids), and whatever else.
"""

from __future__ import annotations

import sys

from runtimes import plugins
from runtimes.base import BadInput
from runtimes.proof.answers import MULTI_LABEL as MULTI_LABEL
from runtimes.proof.answers import REGRESSION as REGRESSION

OTHER = "other"
"""No file of this folder: what answers with anything but scores for each image or pixel, or detections."""
NUMBERS = (REGRESSION, MULTI_LABEL, OTHER)


def require(task: str | None, where: str = "--task") -> None:
    """Raise `BadInput` naming `where` for a `task` that does not exist; None was not given."""
    known = (*plugins.names(sys.modules[__name__]), *NUMBERS)
    if task is not None and task not in known:
        raise BadInput(f"{where}: {plugins.unknown(task, known, 'task')}")
