"""Train a network for any of the tasks, small and seeded: real weights in seconds to minutes, on built-in or own data.

    classification   cross-entropy, labels smoothed by 0.1      one class an image (folders of classes, digits, shapes)
    segmentation     the same for every pixel                   images/ and masks/, or shapes
    detection        the detector's own loss                    images/ and annotations.json, or shapes

SGD with Nesterov momentum, weight decay, one cycle of the rate (edgecnn/training/learning.py); images shifted by up
to 1/16 of their size, and mirrored where the data allows it (a mirrored 2 does not stay a 2). The held-out fifth of
the data (or its own test part) is seen once, at the end; for early stopping a tenth of the training part is held
back.

The same arguments give the same bytes: generators are seeded, algorithms deterministic, and the number of threads
fixed, because it changes the order of sums; also when the training was interrupted and resumed
(edgecnn/training/resume.py).
Test: tests/test_train.py, tests/test_train_tasks.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import edgecnn.tasks
from edgecnn import doubts
from edgecnn.data.given import Data, Spec, given
from edgecnn.data.load import load_data
from edgecnn.data.samples import IGNORE, Samples, hold_back
from edgecnn.networks.sources import blueprint, build, describe, probe
from edgecnn.networks.spec import Blueprint, Shape, image_shape
from edgecnn.networks.weights import Trained, apply_weights, check_weights_output, load_weights, save_weights
from edgecnn.tasks import detection
from edgecnn.training import resume as resuming
from edgecnn.training.learning import Learner, Recipe, reproducible, runner_of, top_rate
from edgecnn.training.qat import fine_tune
from runtimes import plugins
from runtimes.base import BadInput, Track, counted, silent
from runtimes.imaging.preprocess import Preprocess

WARM_UP = 64
"""Images from which quantization-aware training takes its first ranges."""


@dataclass(frozen=True)
class TrainReport:
    """What a training came to. Scores are shares of 1 in `metric`, of all images that were trained on and of those held
    out; `losses` has the mean of each epoch, `validation` its score on the held-back images (empty without patience).
    """

    output: str
    model: str
    task: str
    data: str
    classes: int
    metric: str
    epochs: int
    best_epoch: int
    seconds: float
    train_images: int
    validation_images: int
    test_images: int
    train_score: float
    test_score: float
    losses: tuple[float, ...]
    validation: tuple[float, ...]
    seed: int
    qat: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def test_accuracy(self) -> float:
        """`test_score` of a classifier."""
        return self.test_score

    @property
    def verdict(self) -> str:
        score = f"{self.metric} {self.test_score:.2%}"
        return f"{self.output}: {self.model} reaches {score} on {counted(self.test_images, 'held-out image')}."

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "losses": list(self.losses),
            "validation": list(self.validation),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Lesson:
    """What is learned from what: the untrained module, and what its weights will say of themselves."""

    module: nn.Module
    about: Trained
    train: Samples
    held: Samples | None
    test: Samples
    heard: tuple[str, ...] = ()


def train(
    name: str,
    data: Data = "digits",
    output: Path | str = "weights.safetensors",
    *,
    epochs: int | None = None,
    seed: int = 0,
    rate: float | None = None,
    batch: int = 16,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    label_smoothing: float = 0.1,
    flip: bool | None = None,
    patience: int | None = None,
    input_shape: str | tuple[int, ...] | None = None,
    num_classes: int | None = None,
    weights: Path | str | None = None,
    qat: bool = False,
    resume: bool = False,
    force: bool = False,
    track: Track = silent,
) -> TrainReport:
    """Train the network `name` (any SOURCE) on labelled `data` and write its weights, with what they are, to `output`.

    `data` names a set or a file, or is the arrays (images, labels).
    `flip` None mirrors where the data allows it; `patience` holds a tenth back and stops early. Training starts from
    `weights`, or from random ones; `qat` adds epochs in which the network sees its int8 rounding (only those when there
    are weights to start from). `resume` goes on where the same call was interrupted. Raises `BadInput` for data
    without answers, for a network that does not answer with these classes, and for divergence.
    """
    path, spec = check_weights_output(Path(output), force), given(data)
    resuming.check_place(path, resume, force)
    plan = blueprint(name)
    epochs = plan.epochs if epochs is None else epochs
    recipe = Recipe(epochs, rate or 0.0, batch, momentum, weight_decay, label_smoothing, bool(flip), patience, seed)
    check_recipe(recipe, rate)
    start = time.perf_counter()
    task = plugins.load(edgecnn.tasks, plan.task, "task")
    with resuming.told(path, resume), reproducible(seed):
        lesson = prepare(plan, name, spec, input_shape, num_classes, recipe)
        flip = lesson.train.mirrored if flip is None else flip
        recipe = replace(recipe, rate=rate or top_rate(lesson.module) * task.RATE, flip=flip)
        layout = torch.channels_last if plan.ours else torch.contiguous_format
        if weights is not None:
            apply_weights(lesson.module, load_weights(weights)[0], str(weights))
        learner = Learner(lesson.module, task, lesson.train, recipe, layout)
        settings = {**asdict(recipe), **lesson.about.settings, "images": len(lesson.train), "from": str(weights)}
        if resume:
            restore(learner, path, settings)
        if weights is None or not qat:
            learner.learn(lesson.held, lambda: resuming.save(path, settings, learner.state()), track)
        losses = learner.losses + (tune(learner, track) if qat else [])
        runner = runner_of(lesson.module, task.OUTPUTS)
        scores = [task.score(runner, part, "image", 64).value for part in (lesson.train, lesson.test)]
    about = replace(lesson.about, test_score=scores[1])
    save_weights(lesson.module, path, about, force)
    resuming.place_of(path).unlink(missing_ok=True)
    held = 0 if lesson.held is None else len(lesson.held)
    return TrainReport(
        str(path), name, plan.task, str(spec), about.num_classes, task.METRIC, len(losses), learner.best_epoch,
        time.perf_counter() - start, len(lesson.train), held, len(lesson.test), scores[0], scores[1],
        tuple(losses), tuple(learner.scores), seed, qat, lesson.heard,
    )  # fmt: skip


def tune(learner: Learner, track: Track) -> list[float]:
    """Go on with int8 simulated, for a fifth of the epochs at a fiftieth of the rate; returns the losses."""
    recipe = replace(learner.recipe, epochs=max(1, learner.recipe.epochs // 5), rate=learner.recipe.rate / 50)
    first = np.arange(min(WARM_UP, len(learner.samples)))
    batches = [torch.from_numpy(learner.fetch(part)) for part in np.array_split(first, 4) if len(part)]

    def fit(module: nn.Module) -> list[float]:
        tuned = Learner(module, learner.task, learner.samples, replace(recipe, patience=None), learner.layout)
        tuned.learn(None, lambda: None, track)
        return tuned.losses

    return fine_tune(learner.module, batches, fit)


def check_recipe(recipe: Recipe, rate: float | None) -> None:
    """Raise `BadInput` for numbers that no training can have."""
    if recipe.epochs < 1 or (rate is not None and not 0 < rate < math.inf):
        raise BadInput(
            f"training: {recipe.epochs} epochs at rate {rate}; at least one epoch and a rate above 0 are needed"
        )
    if recipe.batch < 1 or (recipe.patience is not None and recipe.patience < 1):
        raise BadInput(f"training: batch {recipe.batch}, patience {recipe.patience}; at least 1 is needed")
    shares = {"momentum": recipe.momentum, "weight decay": recipe.weight_decay, "smoothing": recipe.label_smoothing}
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise BadInput(f"training: {name} {value}; 0 to below 1 is needed")


def restore(learner: Learner, path: Path, settings: dict[str, Any]) -> None:
    state = resuming.load(path, settings)
    try:
        learner.restore(state)
    except Exception as error:
        raise BadInput(
            f"{resuming.place_of(path)}: is damaged or of another network; begin anew with --force"
        ) from error


# ------------------------------------------------------------------------------------------------ what is to be learned
def prepare(
    plan: Blueprint,
    name: str,
    data: Spec,
    input_shape: str | tuple[int, ...] | None,
    num_classes: int | None,
    recipe: Recipe,
) -> Lesson:
    """Load `data` as the network `plan` wants to see it and build that for the classes which are there."""
    task = plugins.load(edgecnn.tasks, plan.task, "task")
    draft_classes = None if plan.classes is None else num_classes or plan.classes or 2
    shape = image_shape(input_shape) if input_shape is not None else None
    draft = describe(plan, build(plan, None, draft_classes, name, recipe.seed), None, shape)
    if plan.task == "detection" and plan.ours:  # before minutes of probing it
        detection.require_loss(draft.module, name)
    if draft.preprocess is None:
        raise BadInput(f"{name}: takes {draft.input_shape[0]} channels; training needs pictures, grey (1) or RGB (3)")
    parts = [load_data(data, draft.preprocess, split=part, task=plan.task) for part in ("train", "test")]
    names = class_names(parts, plan.task)
    if not task.has_answers(parts[0]) or len(names) < (1 if plan.task == "detection" else 2):
        raise BadInput(f"{data}: has no classes to learn for {plan.task}; {task.WANTED}")
    module = build(plan, None, None if plan.classes is None else num_classes or len(names), name, recipe.seed)
    check_answer(probe(replace(draft, module=module)), plan.task, names, name, str(data))
    if plan.task == "detection":
        detection.require_loss(module, name)
    about = described(plan, name, str(data), names, draft.input_shape, draft.preprocess, recipe.seed)
    heard = doubts.told(doubts.of_input(replace(draft, source=name), data))
    train_on, held = (parts[0], None) if recipe.patience is None else hold_back(parts[0])
    return Lesson(module, about, train_on, held, parts[1], heard)


def described(
    plan: Blueprint, name: str, data: str, names: Sequence[str], shape: Shape, preprocess: Preprocess, seed: int
) -> Trained:
    task, metric = plan.task, plugins.load(edgecnn.tasks, plan.task, "task").METRIC
    version = edgecnn.__version__
    return Trained(name, len(names), shape, preprocess, tuple(names), data, 0.0, seed, version, task, metric)


def class_names(parts: Sequence[Samples], task: str) -> tuple[str, ...]:
    """The data's own; for masks without names the numbers up to the largest that occurs."""
    if parts[0].class_names or task != "segmentation" or parts[0].masks is None:
        return parts[0].class_names
    masks = (mask for part in parts for mask in part.masks or ())
    largest = max(int(np.where(mask == IGNORE, 0, mask).max()) for mask in masks)
    return tuple(str(i) for i in range(largest + 1))


def check_answer(answer: Any, task: str, names: Sequence[str], name: str, data: str) -> None:
    """Raise `BadInput` when what the network answers is not of its task, or has another number of classes."""
    if task == "detection":
        if not isinstance(answer, tuple) or len(answer) != 4:
            raise BadInput(f"{name}: answers no boxes, scores, labels and images; it is no detector")
        return
    rank = 2 if task == "classification" else 4
    if not isinstance(answer, torch.Tensor) or answer.ndim != rank or answer.shape[:2] != (1, len(names)):
        got = list(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise BadInput(f"{name}: answers {got}, but {data} has {len(names)} classes; give --num-classes {len(names)}")
