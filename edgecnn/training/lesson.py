"""What is learned from what: data as the network wants to see it, and the network built for the classes that there are.

    input     what the user says, else the weights it starts from, else the network itself, else an assumption, which is
              told before the long work begins                                          (edgecnn/networks/assumed.py)
    classes   of the data; a network that answers with another number is refused

Test: tests/test_train.py, tests/test_train_tasks.py, tests/test_fine_tune.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import edgecnn.tasks
from edgecnn import doubts
from edgecnn.data.given import Spec
from edgecnn.data.load import load_data
from edgecnn.data.samples import IGNORE, Samples, hold_back
from edgecnn.networks.carried import carried
from edgecnn.networks.sources import build, describe, probe
from edgecnn.networks.spec import Blueprint, Shape, image_shape
from edgecnn.networks.told import told
from edgecnn.networks.weights import Trained, apply_weights, load_weights
from edgecnn.tasks import detection
from edgecnn.training.learning import Recipe
from runtimes import plugins
from runtimes.base import BadInput, counted
from runtimes.imaging.preprocess import FLOAT32, Preprocess


@dataclass(frozen=True)
class Lesson:
    """What is learned from what: the module before training, and what its weights will say of themselves.

    `train` is learned, `held` (None without patience) tells when to stop, `test` is seen at the ends alone.
    """

    module: nn.Module
    about: Trained
    train: Samples
    held: Samples | None
    test: Samples
    heard: tuple[str, ...] = ()


def prepare(
    plan: Blueprint,
    name: str,
    data: Spec,
    input_shape: str | tuple[int, ...] | None,
    preprocess: str | None,
    num_classes: int | None,
    weights: Path | str | None,
    recipe: Recipe,
    tell: doubts.Tell,
) -> Lesson:
    """Load `data` as the network `plan` wants to see it and build that, with `weights`, for the classes there are.

    `tell` hears what was assumed, before anything runs at a size that nobody said.
    """
    draft_classes = None if plan.classes is None else num_classes or plan.classes or 2
    shape = image_shape(input_shape) if input_shape is not None else None
    state, trained = (None, None) if weights is None else load_weights(weights)
    built = build(plan, None, draft_classes, name, recipe.seed)
    plan = carried(plan, built)
    task = plugins.load(edgecnn.tasks, plan.task, "task")
    draft = replace(describe(plan, built, trained, shape), source=name)
    if plan.task == "detection" and plan.ours:  # before minutes of probing it
        detection.require_loss(draft.module, name)
    if draft.preprocess is None:
        takes = list(draft.input_shape)
        raise BadInput(f"{name}: takes samples of shape {takes}; training needs pictures, grey (1 channel) or RGB (3)")
    draft = told(draft, None, preprocess)
    pixels = floats_of(draft.preprocess, name)
    heard = doubts.aloud(tell, doubts.told(doubts.of_input(draft, data)))
    parts = [load_data(data, pixels, split=part, task=plan.task) for part in ("train", "test")]
    names = class_names(parts, plan.task)
    if not task.has_answers(parts[0]) or len(names) < (1 if plan.task == "detection" else 2):
        raise BadInput(f"{data}: has no classes to learn for {plan.task}; {task.WANTED}")
    module = build(plan, None, None if plan.classes is None else num_classes or len(names), name, recipe.seed)
    check_answer(probe(replace(draft, module=module)), plan, names, name, str(data))
    if plan.task == "detection":
        detection.require_loss(module, name)
    if state is not None:
        apply_weights(module, state, str(weights))
    about = described(plan, name, str(data), names, draft.input_shape, pixels, recipe.seed)
    train_on, held = (parts[0], None) if recipe.patience is None else hold_back(parts[0])
    return Lesson(module, about, train_on, held, parts[1], heard)


def floats_of(preprocess: Preprocess | None, name: str) -> Preprocess:
    """`preprocess`, if it makes floats (C, H, W): images are moved about in that order. Raises `BadInput`."""
    if preprocess is None or preprocess.input != FLOAT32:
        made = "no pictures" if preprocess is None else f"input {preprocess.input!r}"
        raise BadInput(f"{name}: {made}; training is of float32 (C, H, W): leave input out")
    return preprocess


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


def check_answer(answer: Any, plan: Blueprint, names: Sequence[str], name: str, data: str) -> None:
    """Raise `BadInput` when what the network answers is not of its task, or has another number of classes."""
    if plan.task == "detection":
        if not isinstance(answer, tuple) or len(answer) != 4:
            raise BadInput(f"{name}: answers no boxes, scores, labels and images; it is no detector")
        return
    rank = 2 if plan.task == "classification" else 4
    if not isinstance(answer, torch.Tensor) or answer.ndim != rank or answer.shape[:2] != (1, len(names)):
        got = list(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        way = "let its answer have as many" if plan.classes is None else f"give --num-classes {len(names)}"
        raise BadInput(f"{name}: answers {got}, but {data} has {counted(len(names), 'class', 'classes')}; {way}")
