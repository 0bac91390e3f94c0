"""What `quantize` knows of a model: from its metadata, from the user's words, else assumed, and then said.

    metadata  ->  --labels, --preprocess  ->  identity, which travels with the result
    neither   ->  a guess, and a line that says so

Test: tests/test_model_identity.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import onnx

from edgecnn import doubts, meaning, tasks
from edgecnn.choosing.choose import in_half
from edgecnn.data.classes import classes_told_apart
from edgecnn.data.labels import Labels, read_labels
from edgecnn.data.material import Material, tells_classes
from edgecnn.data.ready_arrays import of_no_pictures, unprepared
from edgecnn.data.samples import IGNORE, Samples
from edgecnn.evaluation.class_numbers import held, of_numbers
from edgecnn.evaluation.left_out import left_out
from edgecnn.networks.assumptions import sentence
from edgecnn.runners import graph_inputs, graph_outputs
from edgecnn.tasks import detection
from exporters.artifact import Identity
from exporters.ending import SIGMOID, ending_of
from runtimes.base import Array
from runtimes.comparing.two_classes import class_count, is_single
from runtimes.execution.feeds import TensorInfo
from runtimes.imaging.keypoints import count_of_points
from runtimes.imaging.maps import Seen, is_map, is_whole
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import open_session

MOST_NUMBERED = 64
"""Images with objects on which it is found out how a detector counts classes."""
UNUSED_HINTS = {
    "boxes": "a raw detector head becomes boxes by `--decode yolov8` or `edgecnn decode` (docs/detectors.md)",
    "numbers": "a function of yours can judge by them: --metric FILE.py:NAME",
    "pictures": '`task = "image"` on the class, or --task image, judges by them',
    "masks": '`task = "segmentation"` on the class makes maps of (N, classes, H, W) classes',
}


def identified(
    model: onnx.ModelProto,
    identity: Identity | None,
    name: str,
    labels: Labels | None,
    task: str | None = None,
) -> Identity | None:
    """`identity` with the class names in the file `labels` and the `task`, where these are given."""
    tasks.require(task)
    if labels is None and task is None:
        return identity
    known = identity or Identity(name, task_of(None, model))
    known = known if task is None else replace(known, task=task)
    return known if labels is None else replace(known, labels=read_labels(labels, classes_in(model, known.task)))


def settled(
    name: str, known: Identity, told: bool, model: onnx.ModelProto, material: Material, tell: doubts.Tell
) -> tuple[Identity, Material, tuple[str, ...]]:
    """(what is `known` of the model called `name`, with task and names; `material` as it can use it; what was told).

    `told`: the task is known, and not only assumed.
    """
    task, line = task_of(known if told else None, model, is_binary(material.judged)), ""
    ending = ending_of(model)
    if told:
        task, line = meaning.usable(name, task, [info.shape for info in graph_outputs(model)])
        line = line or doubts.of_shades(name, task, ending, material.preprocess)
        if task == tasks.KEYPOINTS and not line:
            line = doubts.of_ends(name, first_answers(model, material), material.preprocess)
    elif task == "classification":
        answers, names = first_answers(model, material), len(known.labels)
        shape = ("N", *answers.shape[1:])
        labelled = meaning.fits(material.judged.labels, shape)
        task, line = meaning.of_answers(name, shape, ending, answers, labelled, names)
    elif task == tasks.OTHER:
        line = doubts.of_maps(name, graph_inputs(model), graph_outputs(model), ending == SIGMOID)
    first = doubts.aloud(tell, doubts.told(line))
    material, said = judging(name, task, model, material, tell)
    known = named(replace(known, task=task, sigmoid=ending == SIGMOID), model, material)
    return known, material, (*first, *said)


def first_answers(model: onnx.ModelProto, material: Material) -> Array:
    """What `model` answers with first to a few images."""
    session = open_session(model)
    return np.concatenate([next(iter(session(feed).values())) for feed in material.calibration_feeds[: meaning.SEEN]])


def named(known: Identity, model: onnx.ModelProto, material: Material) -> Identity:
    """`known` with the names that the labels which judge it have, where it has none and there is one for each answer.

    As in `build`, images that only calibrate name nothing.
    """
    judged, outputs = material.judged, graph_outputs(model)
    unused = all(answers is None for answers in (judged.labels, judged.masks, judged.truth))
    classes = known.task in tasks.names() and known.task != tasks.EMBEDDING
    if known.labels or unused or not classes or len(outputs) != 1:
        return known
    if known.task in tasks.NUMBERS:
        count = classes_in(model, known.task)
    else:
        count = classes_told_apart(outputs[0], graph_inputs(model)[0])
    return replace(known, labels=judged.class_names) if count == len(judged.class_names) else known


def is_binary(samples: Samples) -> bool | None:
    """Whether the masks of `samples` have two classes at most; None without masks."""
    if samples.masks is None:
        return None
    picked = sorted({round(i) for i in np.linspace(0, len(samples) - 1, doubts.MOST_READ)})
    return all(((mask := samples.masks[i]) < 2).all() or set(np.unique(mask)) <= {0, 1, IGNORE} for i in picked)


def preparing(identity: Identity | None, name: str, model: onnx.ModelProto, preprocess: Preprocess | None) -> Identity:
    """`identity` of a model whose pixels are prepared as the user says: that travels with it."""
    return replace(identity or Identity(name, task_of(None, model)), preprocess=preprocess)


def prepared(identity: Identity | None, material: Material, carried: bool, pixels: bool = False) -> Preprocess | None:
    """How pixels become the input, where it is known or was used, or the result takes `pixels`."""
    if identity is not None and identity.preprocess is not None:
        return identity.preprocess
    unused = material.as_is and material.guessed and not carried
    return None if not pixels and (unused or of_no_pictures(material)) else material.preprocess


def of_material(name: str, material: Material, carried: bool) -> str:
    """What was assumed of the pixels of the model `name`; empty where they were told, or neither used nor `carried`."""
    ready, used = material.preprocess, carried or not material.as_is
    if ready is None or of_no_pictures(material) or not used:
        return ""
    return sentence(name, (ready.channels, *ready.size), ready, material.assumed)


def judged_as(task: str, material: Material, outputs: Sequence[TensorInfo]) -> Material:
    """`material` as a model of this `task` can use it: without labels that do not judge it, and with the reason."""
    judged = material.judged
    given = " and ".join(judged.answers)
    known = tasks.load(task) if task in tasks.names() else None
    if not given or material.metric:
        return material
    if known is not None and task in tasks.NUMBERS and (judged.truth is not None or judged.pictures is not None):
        whose = known.why_not(judged, outputs[0].shape) if len(outputs) == 1 else f"{_answers(outputs)} are several"
        if not whose:
            return material
    elif known is not None and known.has_answers(judged):
        if task != "classification" or tells_classes(outputs):
            return material
        whose = f"{_answers(outputs)} are no scores of classes"
    else:
        whose = f"the task is {task}" if task != tasks.OTHER else f"{_answers(outputs)} are of no known task"
    return replace(material, judged=judged.without_answers(), unused=f"they are {given}, and {whose}")


def _answers(outputs: Sequence[TensorInfo]) -> str:
    """`answers of shape (?, 10)`, one for each output."""
    shapes = (", ".join("?" if size is None else str(size) for size in info.shape) for info in outputs)
    return f"answers of shape {' and '.join(f'({shape})' for shape in shapes)}"


def judging(
    name: str, task: str, model: onnx.ModelProto, material: Material, tell: doubts.Tell
) -> tuple[Material, tuple[str, ...]]:  # fmt: skip
    """(`material` as the float `model`, called `name`, can use it; what was told of labels unused or in question)."""
    outputs = graph_outputs(model)
    material = judged_as(task, material, outputs)
    unused, line = of_unused(name, material, outputs), "" if material.metric else left_out(task, material.judged)
    if task == "detection" and not material.metric and material.judged.targets is not None:
        judged, line = numbered(name, model, material.judged, material.input_name)
        material = replace(material, judged=judged)
    told = doubts.told(unused, line, doubts.of_masks(material.judged), *doubts.of_images(material))
    return material, doubts.aloud(tell, told)


def numbered(name: str, model: onnx.ModelProto, samples: Samples, input_name: str) -> tuple[Samples, str]:
    """(`samples` whose classes are counted as the detector `model` counts them; the line about that, if any)."""
    assert samples.targets is not None
    full = (i for i in range(len(samples)) if len(samples.targets[i].labels))
    shown = list(islice(full, MOST_NUMBERED))
    if not shown:
        return samples, ""
    score = detection.score(open_session(model), samples.subset(shown), input_name, 1)
    return held(samples, score), of_numbers(name, score)


def of_unused(name: str, material: Material, outputs: Sequence[TensorInfo] = ()) -> str:
    """The line that says that labels were given and do not judge the model `name`; empty where they do.

    `outputs` are those of the model: only where one may hold maps of classes is there a way to use masks.
    """
    if not material.unused:
        return ""
    maps = not outputs or any(len(info.shape) == 4 for info in outputs)
    useless = {"masks": not maps, "pictures": "task" not in material.unused}
    hints = {kind: words for kind, words in UNUSED_HINTS.items() if not useless.get(kind)}
    hint = next((f"; {words}" for kind, words in hints.items() if f"they are {kind}" in material.unused), "")
    return f"{name}: labels of {material.judged.name} cannot be used: {material.unused}{hint}"


def classes_in(model: onnx.ModelProto, task: str = "classification") -> int | None:
    """How many names the first output of `model` has for an image; None where that is open."""
    shape = graph_outputs(model)[0].shape
    if task == tasks.KEYPOINTS:
        return count_of_points(shape[1:], Seen.of(graph_inputs(model)[0].shape[1:]))
    if task in tasks.NUMBERS:
        return shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None
    return class_count(shape) if len(shape) < 3 else None


def assumed_of(
    name: str, material: Material, carried: bool, identity: Identity | None, told: str | None = None
) -> tuple[str, ...]:
    """What a user should hear before the work: pixels and order of classes that nobody said, few images.

    `told`: what the user says of pixels.

    `carried`: the result knows how its pixels are prepared, as a bundle and a graph that normalizes them do; it knows
    the names of its classes where a model without them has another thing to say of itself, or is a bundle.
    """
    verb = "named after" if carried or identity is not None else "counted by"
    uncounted = identity is not None and (identity.labels or identity.task == tasks.EMBEDDING)
    counted = "" if uncounted else doubts.of_names(material.judged, verb)
    seen = (material.calibration, material.judged)
    odd = [line for one in seen for line in doubts.of_data(one, material.preprocess, material.guessed)]
    few = doubts.of_few(material.calibration)
    return doubts.told(of_material(name, material, carried), unprepared(told, seen), few, *odd, counted)


def half_layers(name: str, model: onnx.ModelProto) -> str:
    """That layers of the float `model` called `name` compute in float16 and stay as they are; "" where none does."""
    said = in_half(model)
    return f"{name}: {said}" if said else ""


def task_of(identity: Identity | None, model: onnx.ModelProto, binary: bool | None = None) -> str:
    """The task that the model says it is for; else detection or classification by its outputs, or `other`.

    `binary`: the data has a mask for each picture, so that maps of its size are segmentation; one map, of two classes.
    """
    if identity is not None:
        return identity.task
    names = [value.name for value in model.graph.output]
    if set(detection.OUTPUTS) <= set(names):
        return "detection"
    first = graph_outputs(model)[0]
    shape, whole = first.shape, is_whole(first.dtype)
    one = bool(binary) and len(shape) == 4 and is_single(shape)
    if binary is not None and len(names) == 1 and (one or is_map(shape[1:], whole)):
        return "segmentation"
    return "classification" if len(names) == 1 and len(shape) in (1, 2) else tasks.OTHER
