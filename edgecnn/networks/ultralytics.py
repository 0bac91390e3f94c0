"""Networks of Ultralytics (YOLOv5u, v8 to 12, 26): what their modules say of themselves, in the words of this project.

    task detect      decode: yolov8, or yolov10 where the network chooses its boxes        names     labels
    task classify    classification                                                        args      imgsz, else 640
    any other        numbers: masks, key points and turned boxes are for code behind it    pixels    docs/preprocess.md

A module of theirs answers with one tensor only when it is told that it is exported, and takes any batch only when it
is told that its size may change; both are attributes of its heads. A copy is told; the given module stays as it is.
Nothing of the package is imported: whoever gives such a module has it. Test: tests/test_ultralytics.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from edgecnn.data.pixels import YOLO
from edgecnn.detection.raw import CHOSEN
from edgecnn.networks.axes import first_channels, is_from
from edgecnn.tasks import OTHER
from runtimes.imaging.preprocess import CHANNELS

PACKAGE = "ultralytics"
SIDE = 640
"""What all their configurations train at."""
TASKS = {"detect": "detection", "classify": "classification"}


def told(module: nn.Module) -> nn.Module:
    """A copy of a `module` of theirs, ready to be exported, with `task`, `labels`, `input_shape` and so on as
    own_attributes.py reads them; any other module as it is.
    """
    if not is_from(module, PACKAGE):
        return module
    inner = getattr(module, "model", None)
    if callable(getattr(module, "predict", None)) and callable(getattr(module, "export", None)):  # a YOLO("best.pt")
        module = inner if isinstance(inner, nn.Module) else module
    made = copy.deepcopy(module).float().eval()
    for head in made.modules():
        if isinstance(getattr(head, "export", None), bool):
            for name in ("export", "dynamic"):
                setattr(head, name, True)
    task, channels = getattr(made, "task", None), first_channels(made)
    shape = (channels, *_sides(getattr(made, "args", None)))
    values: dict[str, Any] = {"task": TASKS.get(str(task), OTHER), "input_shape": shape}
    names = _labels(getattr(made, "names", None))
    if names and values["task"] != OTHER:
        values["labels"] = names
    if task == "detect":
        values["decode"] = CHOSEN if getattr(made, "end2end", False) is True else "yolov8"
    if channels in CHANNELS:
        classifies = task == "classify" and shape[1] == shape[2]
        values["preprocess"] = {"resize": shape[1]} if classifies else YOLO
    for name, value in values.items():
        setattr(made, name, value)
    return made


def _sides(args: object) -> tuple[int, int]:
    """Height and width that it was trained at."""
    found = args.get("imgsz") if isinstance(args, Mapping) else getattr(args, "imgsz", None)
    sides = [found, found] if isinstance(found, int) else list(found) if isinstance(found, list | tuple) else []
    whole = len(sides) in (1, 2) and all(isinstance(side, int) and side > 0 for side in sides)
    return (sides[0], sides[-1]) if whole else (SIDE, SIDE)


def _labels(names: object) -> tuple[str, ...]:
    """Class names in their order; none where they are only the numbers of the classes, as before a training."""
    found = [names[i] for i in sorted(names)] if isinstance(names, Mapping) else names
    labels = tuple(map(str, found)) if isinstance(found, list | tuple) else ()
    return () if labels == tuple(map(str, range(len(labels)))) else labels
