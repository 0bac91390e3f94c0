"""What is learned from what: data as the network wants to see it, and the network built for the classes that there are.

    input     what the user says, else the weights it starts from, else the network itself, else an assumption, which is
              told before the long work begins                                         (edgecnn/networks/assumptions.py)
    classes   of the data; a network that answers with another number is refused

Test: tests/test_train.py, tests/test_train_tasks.py, tests/test_fine_tune.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

import edgecnn.tasks
from edgecnn import doubts
from edgecnn.data.built_in import recorded
from edgecnn.data.data_argument import Spec
from edgecnn.data.fingerprint import identified
from edgecnn.data.load import load_data
from edgecnn.data.ready_arrays import for_arrays, unprepared
from edgecnn.data.samples import IGNORE, Samples, hold_back
from edgecnn.data.table import unread
from edgecnn.data.unreadable import of_unreadable
from edgecnn.evaluation.left_out import left_out
from edgecnn.networks.chosen_output import answering, parts_of
from edgecnn.networks.forward import listed, parameters, taken
from edgecnn.networks.overrides import told
from edgecnn.networks.own_attributes import carried
from edgecnn.networks.sources import as_told, build, describe
from edgecnn.networks.spec import Blueprint, Shape
from edgecnn.networks.weights import Trained, apply_weights, load_weights
from edgecnn.tasks import KEYPOINTS, NUMBERS, OTHER, REGRESSION, detection
from edgecnn.tasks.regression import spread_of
from edgecnn.training.learning import Recipe, is_one_map
from edgecnn.training.scaling import scale_last
from runtimes.base import BadInput, Track, counted
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
    source: str,
    data: Spec,
    input_shape: str | tuple[int, ...] | None,
    preprocess: str | None,
    num_classes: int | None,
    weights: Path | str | None,
    task_told: str | None,
    answer_told: str | int | None,
    recipe: Recipe,
    sift: Track | None,
    tell: doubts.Tell,
) -> Lesson:
    """Load `data` as the network `plan` wants to see it and build that, with `weights`, for the classes there are.

    `tell` hears what was assumed, before anything runs at a size that nobody said. `sift`: see `load_data`.
    """
    draft_classes = num_classes if plan.classes is None else num_classes or plan.classes or 2
    state, trained = (None, None) if weights is None else load_weights(weights)
    fed = trained.input_shape if input_shape is None and trained is not None else input_shape
    built = build(plan, None, draft_classes, source, recipe.seed, fed)
    plan = as_told(carried(plan, built, task_told), task_told, trained)
    refuse_several(plan, built, source)
    task = learnable(plan, source)
    asked, _ = taken(plan, built, input_shape)
    draft = replace(describe(plan, built, trained, asked), source=source)
    if plan.task == "detection" and plan.ours:  # before minutes of probing it
        detection.require_loss(draft.module, source)
    draft = told(draft, None, preprocess)
    pixels = draft.preprocess
    require_floats(pixels, source)
    numbers = plan.task in NUMBERS
    load = partial(load_data, data, draft.ready, task=plan.task, as_truth=numbers, sift=sift)
    parts = [load(split=part) for part in ("train", "test")]
    draft = for_arrays(draft, plan.task, parts)
    heard = doubts.aloud(tell, doubts.told(doubts.of_input(draft, data), unprepared(preprocess, parts[:1])))
    names = class_names(parts, plan.task, draft.labels)
    count = require_answers(task, parts, plan.task, names, data)
    module = build(plan, None, None if plan.classes is None else num_classes or count, source, recipe.seed, fed)
    draft, answer = answering(replace(draft, module=module), plan, answer_told, source)
    module = draft.module
    if numbers:
        check_numbers(answer, task, parts[0], source)
    else:
        check_answer(answer, plan, names, source, str(data))
    if plan.task == "detection":
        detection.require_loss(module, source)
    if state is not None:
        apply_weights(module, state, str(weights))
    if plan.task == REGRESSION and parts[0].truth is not None:
        scale_last(module, torch.from_numpy(parts[0][0][None]), *spread_of(parts[0].truth), fresh=state is None)
    about = described(plan, source, str(data), names, count, draft.input_shape, draft.preprocess, recipe.seed)
    seen_before = trained.trained_on if trained else ()
    about = replace(about, trained_on=tuple(dict.fromkeys((*seen_before, *identified(data)))))
    odd = (*of_unreadable(*parts), *doubts.of_data(parts[0], pixels), doubts.of_masks(parts[0]))
    heard = (*heard, *doubts.aloud(tell, doubts.told(draft.said, *odd, left_out(plan.task, parts[1]))))
    train_on, held = (parts[0], None) if recipe.patience is None else hold_back(parts[0])
    return Lesson(module, about, train_on, held, parts[1], heard)


def refuse_several(plan: Blueprint, module: torch.nn.Module, name: str) -> None:
    """Raise `BadInput` for a network of several inputs."""
    wanted = list(plan.input_shapes) or [key for key, must in parameters(module).items() if must]
    if len(wanted) > 1:
        raise BadInput(
            f"{name}: takes {listed(wanted)}; training needs one input: train it in PyTorch and give its "
            "weights to `edgecnn build`"
        )


def learnable(plan: Blueprint, name: str) -> ModuleType:
    """The file of its task; raises `BadInput` for the one that has none."""
    if plan.task == OTHER:
        raise BadInput(f"{name}: its task is {OTHER}, of which it is not known how it is learned; give --task")
    task = edgecnn.tasks.load(plan.task)
    if not hasattr(task, "loss"):
        raise BadInput(f"{name}: its task is {plan.task}, which is not trained here; train it, and give its --weights")
    return task


def require_floats(preprocess: Preprocess | None, name: str) -> None:
    """Raise `BadInput` where pixels are the input: images are moved about as floats (C, H, W)."""
    if preprocess is not None and preprocess.input != FLOAT32:
        raise BadInput(f"{name}: input {preprocess.input!r}; training is of float32 (C, H, W): leave input out")


def described(
    plan: Blueprint, name: str, data: str, names: Sequence[str], count: int, shape: Shape,
    preprocess: Preprocess | None, seed: int,
) -> Trained:  # fmt: skip
    task, metric = plan.task, edgecnn.tasks.load(plan.task).METRIC
    version = edgecnn.__version__
    source = os.path.basename(name)  # of FILE.py:NAME
    return Trained(source, count, shape, preprocess, tuple(names), recorded(data), 0.0, seed, version, task, metric)


def require_answers(task: ModuleType, parts: Sequence[Samples], name: str, names: Sequence[str], data: Spec) -> int:
    """How many classes, labels or numbers there are to be learned; raises `BadInput` where `parts` have none."""
    if name in NUMBERS:
        for part in parts:
            if part.truth is None and part.pictures is None:
                raise BadInput(f"{data}: has nothing to learn for {name}; {task.WANTED}")
            task.require(part)
        shape = (0,) if parts[0].truth is None else parts[0].truth.shape[1:]
        return shape[0] if name == KEYPOINTS and len(shape) > 1 else int(np.prod(shape, dtype=int))
    if not task.has_answers(parts[0]) or len(names) < (1 if name == "detection" else 2):
        raise BadInput(f"{data}: has no classes to learn for {name}; {unread(data) or task.WANTED}")
    return len(names)


def _which(answer: Any) -> str:
    """How one of several outputs is chosen; empty where `answer` is one."""
    parts = parts_of(answer)
    return f"--answer NAME learns one of {listed(parts)}" if parts else ""


def check_numbers(answer: Any, task: ModuleType, samples: Samples, name: str) -> None:
    """Raise `BadInput` when what the network answers has not the shape of what `samples` have to learn."""
    if not isinstance(answer, torch.Tensor):
        which = _which(answer)
        raise BadInput(f"{name}: answers {type(answer).__name__}; one tensor is needed{'; ' if which else ''}{which}")
    odd = task.why_not(samples, ("N", *answer.shape[1:]))
    if odd:
        raise BadInput(f"{samples.name}: {odd}; let the answer of {name} have as many")


def class_names(parts: Sequence[Samples], task: str, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The data's own; for masks without names the network's, which are `known`, where it has one for each number up to
    the largest that occurs, else these numbers.
    """
    if parts[0].class_names or task != "segmentation" or parts[0].masks is None:
        return parts[0].class_names
    masks = (mask for part in parts for mask in part.masks or ())
    largest = max(int(np.where(mask == IGNORE, 0, mask).max()) for mask in masks)
    return known if len(known) == largest + 1 else tuple(str(i) for i in range(largest + 1))


def check_answer(answer: Any, plan: Blueprint, names: Sequence[str], name: str, data: str) -> None:
    """Raise `BadInput` when what the network answers is not of its task, or has another number of classes."""
    if plan.task == "detection":
        if not isinstance(answer, tuple) or len(answer) != 4:
            raise BadInput(f"{name}: answers no boxes, scores, labels and images; it is no detector")
        return
    if plan.task == "segmentation" and len(names) == 2 and is_one_map(answer):
        return
    rank = 2 if plan.task == "classification" else 4
    if not isinstance(answer, torch.Tensor) or answer.ndim != rank or answer.shape[:2] != (1, len(names)):
        got = list(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        way = "let its answer have as many" if plan.classes is None else f"give --num-classes {len(names)}"
        way = _which(answer) or way
        raise BadInput(f"{name}: answers {got}, but {data} has {counted(len(names), 'class', 'classes')}; {way}")
