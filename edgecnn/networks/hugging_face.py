"""Networks of Hugging Face's transformers: what their configuration says, in the words of this project.

    config.id2label      labels, unless they are LABEL_0, LABEL_1 ... as before a training
    config.image_size    input_shape, with config.num_channels
    ...ForImageClassification, ...ForSemanticSegmentation        task; config.problem_type: of labels or numbers

Mean and deviation lie in a file beside their weights, the image processor's, and not on the module. Nothing of the
package is imported: whoever gives such a module has it. Test: tests/test_hugging_face.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from edgecnn.networks.axes import first_channels, is_from
from edgecnn.tasks import MULTI_LABEL, REGRESSION, SEGMENTATION

PACKAGE = "transformers"
TASKS = {
    "ForImageClassification": "classification",
    "ForImageClassificationWithTeacher": "classification",
    "ForSemanticSegmentation": SEGMENTATION,
}
PROBLEMS = {"multi_label_classification": MULTI_LABEL, "regression": REGRESSION}


def said(module: nn.Module) -> dict[str, Any]:
    """`task`, `labels` and `input_shape`, as own_attributes.py reads them, of a `module` of theirs; else nothing."""
    config = getattr(module, "config", None)
    if config is None or not is_from(module, PACKAGE):
        return {}
    values = {"task": _task(module, config), "labels": _labels(config), **_shape(module, config)}
    return {name: value for name, value in values.items() if value}


def _task(module: nn.Module, config: object) -> str | None:
    names = [kind.__name__ for kind in type(module).__mro__]
    task = next((task for name in names for end, task in TASKS.items() if name.endswith(end)), None)
    problem = PROBLEMS.get(str(getattr(config, "problem_type", None)))
    return problem if problem and task == "classification" else task


def _labels(config: object) -> tuple[str, ...]:
    names = getattr(config, "id2label", None)
    if not isinstance(names, Mapping) or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
        return ()
    labels = tuple(str(names.get(i, names.get(str(i)))) for i in range(len(names)))
    return () if labels == tuple(f"LABEL_{i}" for i in range(len(labels))) else labels


def _shape(module: nn.Module, config: object) -> dict[str, Any]:
    size = getattr(config, "image_size", None)
    sides = [size, size] if isinstance(size, int) else list(size) if isinstance(size, list | tuple) else []
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        return {}
    return {"input_shape": (getattr(config, "num_channels", None) or first_channels(module), *sides)}
