"""Train a network for any of the tasks, small and seeded: real weights in seconds to minutes, on built-in or own data.

    classification   cross-entropy, labels smoothed by 0.1      one class an image (folders of classes, digits, shapes)
    segmentation     the same for every pixel, and overlap      images/ and masks/, or shapes
    detection        the detector's own loss                    images/ and annotations.json, or shapes
    multi-label      binary cross-entropy, smoothed alike       labels.csv, or y of 0 and 1
    regression       mean squared error (scaling.py)            labels.csv, or y of numbers
    keypoints        squared error to Gaussians, or smooth L1   labels.csv, or y (N, K, 2)

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
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

import edgecnn.tasks
from edgecnn import doubts
from edgecnn.data.data_argument import Data, given
from edgecnn.data.unreadable import unreadable_in
from edgecnn.doubts import Tell, unheard
from edgecnn.evaluation.chance import missed_warning
from edgecnn.evaluation.scores import Score
from edgecnn.networks.sources import blueprint
from edgecnn.networks.weights import check_weights_output, save_weights
from edgecnn.training import resume as resuming
from edgecnn.training.guard import Change, guarded
from edgecnn.training.learning import Learner, Recipe, reproducible, score_of, scored, top_rate
from edgecnn.training.lesson import Lesson, prepare
from edgecnn.training.outcome import TrainReport
from edgecnn.training.qat import fine_tune
from runtimes.base import BadInput, Track, silent

WARM_UP = 64
"""Images from which quantization-aware training takes its first ranges."""


FINE_RATE, FINE_SHARE = 2e-4, 5
"""Peak rate with int8 simulated, where BatchNorms stand still and steady nothing; a fifth of the epochs (docs)."""


def train(
    source: str,
    data: Data = "digits",
    output: Path | str = "weights.safetensors",
    *,
    epochs: int | None = None,
    seed: int = 0,
    rate: float | None = None,
    batch: int = 16,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    label_smoothing: float | None = None,
    flip: bool | None = None,
    augment: bool = True,
    patience: int | None = None,
    input_shape: str | tuple[int, ...] | None = None,
    num_classes: int | None = None,
    preprocess: str | None = None,
    weights: Path | str | None = None,
    task: str | None = None,
    answer: str | int | None = None,
    qat: bool = False,
    resume: bool = False,
    force: bool = False,
    skip_unreadable: bool = False,
    track: Track = silent,
    tell: Tell = unheard,
) -> TrainReport:
    """Train the network `source` on labelled `data` and write its weights, with what they are, to `output`.

    `data` names a set or a file, or is the arrays (images, labels).
    `task` is what the network is to learn, by default what it says of itself, `answer` in which of several outputs.
    `label_smoothing` (None: 0.1) is of classes and labels. `flip` None mirrors where the data allows it; without
    `augment` images are neither mirrored nor moved. `patience` holds a tenth back and stops early. Training starts from
    `weights`, or from random ones; `qat` adds epochs in which the network sees its int8 rounding (only those when there
    are weights to start from: `epochs` and `rate` are theirs then). A trained network that becomes worse keeps the
    weights that it came with (edgecnn/training/guard.py). `resume` goes on where the same call was interrupted.
    `skip_unreadable` leaves out pictures that cannot be read. `tell` hears what was assumed before the work begins; the
    report has it too. Raises `BadInput` for data without answers, for a network that does not answer with these
    classes, and for divergence.
    """
    path, spec = check_weights_output(Path(output), force), given(data)
    resuming.check_place(path, resume, force)
    edgecnn.tasks.require(task)
    plan, shares = blueprint(source), (momentum, weight_decay, 0.1 if label_smoothing is None else label_smoothing)
    only_tuned = qat and weights is not None
    epochs = (fine_epochs(plan.epochs) if only_tuned else plan.epochs) if epochs is None else epochs
    recipe = Recipe(epochs, rate or 0.0, batch, *shares, bool(flip), patience, seed, augment)
    check_recipe(recipe, rate)
    start = time.perf_counter()
    with resuming.told(path, resume), reproducible(seed):
        lesson = prepare(plan, source, spec, input_shape, preprocess, num_classes, weights, task, answer, recipe,
                         track if skip_unreadable else None, tell)  # fmt: skip
        learned = smoothed(lesson.about.task, label_smoothing)
        usual = FINE_RATE if only_tuned else top_rate(lesson.module)
        mirrored = augment and lesson.train.mirrored if flip is None else flip
        recipe = replace(recipe, rate=rate or usual * learned.RATE, flip=mirrored)
        layout = torch.channels_last if plan.ours else torch.contiguous_format
        learner = Learner(lesson.module, learned, lesson.train, recipe, layout)
        settings = {**asdict(recipe), **lesson.about.settings, "images": len(lesson.train), "from": str(weights)}

        def learn() -> None:
            if resume:
                restore(learner, path, settings)
            learner.learn(lesson.held, lambda: resuming.save(path, settings, learner.state()), track)

        if weights is None:
            learn()
        change, before = None, None if weights is None and not qat else score_of(lesson.module, learned, lesson.test)
        losses, best = learner.losses, learner.best_epoch
        if qat:
            recipe = recipe if only_tuned else fine_recipe(recipe, learned.RATE)
            tuned, change = tune(lesson, learner, recipe, track)
            losses, best = losses + tuned, best if change.worse else len(losses + tuned)
        elif weights is not None:
            _, change = guarded(lesson.module, learned, lesson.train, lesson.held, False, learn)
            losses, best = learner.losses, 0 if change.worse else learner.best_epoch
        scores = [scored(lesson.module, learned, part) for part in (lesson.train, lesson.test)]
    reached, test = (found.value for found in scores)
    save_weights(lesson.module, path, replace(lesson.about, test_score=test), force)
    resuming.place_of(path).unlink(missing_ok=True)
    heard = doubts.told(*lesson.heard, *fallen(change, source, before, scores[1], recipe.rate))
    return TrainReport(
        str(path), source, lesson.about.task, str(spec), lesson.about.num_classes, learned.METRIC, len(losses), best,
        time.perf_counter() - start, len(lesson.train), len(lesson.held or ()), len(lesson.test), reached, test,
        tuple(losses), tuple(learner.scores), seed, qat, before, change, heard,
        unreadable_in(lesson.train, lesson.test),
    )  # fmt: skip


def fine_epochs(epochs: int) -> int:
    return max(1, epochs // FINE_SHARE)


def fine_recipe(recipe: Recipe, of_task: float) -> Recipe:
    """How to go on with int8 simulated after a training by `recipe`."""
    rate = min(FINE_RATE * of_task, recipe.rate / 50)
    return replace(recipe, epochs=fine_epochs(recipe.epochs), rate=rate)


def fallen(change: Change | None, name: str, before: float | None, after: Score, rate: float) -> tuple[str, ...]:
    """What should be heard of a network that misses a class, or of a trained one that became worse, on what decides or
    on the held-out images.
    """
    missed = missed_warning(name, after, "more epochs or pictures with it, another --rate, or look at its masks")
    if change is None or before is None:
        return (missed,)
    worse = change.warning_of_test(name, after.metric, before, after.value, rate)
    return missed, change.warning(name, after.metric, rate), worse


def tune(lesson: Lesson, learner: Learner, recipe: Recipe, track: Track) -> tuple[list[float], Change]:
    """Go on with int8 simulated, by `recipe`; returns the losses and what came of it."""
    first = np.arange(min(WARM_UP, len(learner.samples)))
    batches = [torch.from_numpy(learner.fetch(part)) for part in np.array_split(first, 4) if len(part)]

    def fit(module: nn.Module) -> tuple[list[float], Change]:
        tuned = Learner(module, learner.task, learner.samples, replace(recipe, patience=None), learner.layout)
        _, change = guarded(
            module, learner.task, lesson.train, lesson.held, True, lambda: tuned.learn(None, lambda: None, track)
        )
        return tuned.losses, change

    return fine_tune(learner.module, batches, fit)


def check_recipe(recipe: Recipe, rate: float | None) -> None:
    """Raise `BadInput` for numbers that no training can have."""
    if recipe.epochs < 1 or (rate is not None and not 0 < rate < math.inf):
        raise BadInput(
            f"training: {recipe.epochs} epochs at rate {rate}; at least one epoch and a rate above 0 are needed"
        )
    if recipe.batch < 1 or (recipe.patience is not None and recipe.patience < 1):
        raise BadInput(f"training: batch {recipe.batch}, patience {recipe.patience}; at least 1 is needed")
    if recipe.flip and not recipe.augment:
        raise BadInput("training: --flip mirrors images, --no-augment leaves them as they are; leave one of them out")
    shares = {"momentum": recipe.momentum, "weight decay": recipe.weight_decay, "smoothing": recipe.label_smoothing}
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise BadInput(f"training: {name} {value}; 0 to below 1 is needed")


def smoothed(task: str, share: float | None) -> ModuleType:
    """The file of `task`; raises `BadInput` for a `share` to smooth labels by, where it has none."""
    learned = edgecnn.tasks.load(task)
    if share and not learned.SMOOTHED:
        raise BadInput(f"--label-smoothing {share:g}: does nothing for {task}, which smooths nothing; leave it out")
    return learned


def restore(learner: Learner, path: Path, settings: dict[str, Any]) -> None:
    state = resuming.load(path, settings)
    try:
        learner.restore(state)
    except Exception as error:
        raise BadInput(
            f"{resuming.place_of(path)}: is damaged or of another network; begin anew with --force"
        ) from error
