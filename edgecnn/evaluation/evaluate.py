"""How good is a model on labelled images, and is another one worse: `edgecnn evaluate MODEL [MODEL2]`.

    each model, on images made ready as it wants them     top-1, mIoU, mAP or R^2 (edgecnn/tasks)
    each of them                                          its 95 % interval (evaluation/interval.py)
    both, image by image                                  the paired difference, 95 % interval (evaluation/scores.py)
    limits, where any are given                           metric lost <= max_drop, metric >= min_metric

The test part of data that has one is used, and of a set that a model has learned from what was held out then
(evaluation/seen_before.py). Classes are matched by name where the model names its own. An .onnx file or
a bundle is judged without importing torch. Test: tests/test_evaluate.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

import edgecnn.tasks
from edgecnn import doubts
from edgecnn.asked_size import steps_of
from edgecnn.compared_models import all_heard, opened, with_labels, with_pixels
from edgecnn.data.classes import classes_told_apart, counted_alike, refuse_from_one, whose_classes
from edgecnn.data.copies import groups_of, rows_of
from edgecnn.data.data_argument import Data, Spec, given
from edgecnn.data.feeding import ready_shape
from edgecnn.data.labels import Labels
from edgecnn.data.load import load_data
from edgecnn.data.parts import part
from edgecnn.data.samples import Samples
from edgecnn.data.table import rows_for, unread
from edgecnn.evaluation.chance import chance_warning, missed_warning, order_warning
from edgecnn.evaluation.class_numbers import held as numbered_alike
from edgecnn.evaluation.class_numbers import of_numbers
from edgecnn.evaluation.interval import interval
from edgecnn.evaluation.left_out import left_out
from edgecnn.evaluation.limits import Limits
from edgecnn.evaluation.own_metric import Metric, OwnMetric, own_metric
from edgecnn.evaluation.report import EvaluateReport as EvaluateReport
from edgecnn.evaluation.scores import Score, rows
from edgecnn.evaluation.seen_before import SeenBefore
from edgecnn.evaluation.task_answers import as_task
from edgecnn.given_model import called, shape_text, source_of
from edgecnn.runners import Subject, of_threads
from edgecnn.tasks import classification
from runtimes.base import Array, BadInput, Runner, Tensors, Track, counted, silent
from runtimes.comparing.two_classes import is_one_score
from runtimes.execution.model_file import is_model_file
from runtimes.imaging.answered import OwnSize, in_own_size
from runtimes.imaging.keypoints import count_of_points
from runtimes.imaging.maps import Seen, is_whole
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof.sizes import are_open

if TYPE_CHECKING:
    from edgecnn.given_model import Given
    from edgecnn.networks.forward import InputShape

BATCH = 32
OWN = "judge by a function of yours: --metric FILE.py:NAME"


def evaluate(
    model: Given,
    other: Given | None = None,
    *,
    data: Data,
    task: str | None = None,
    answer: str | int | None = None,
    metric: str | Metric | None = None,
    weights: Path | None = None,
    labels: Labels | None = None,
    preprocess: str | None = None,
    decode: str | None = None,
    limit: int | None = None,
    max_drop: float | None = None,
    min_metric: float | None = None,
    sure: bool = False,
    batch: int | None = None,
    input_shape: InputShape | None = None,
    threads: int | None = None,
    seed: int = 0,
    skip_unreadable: bool = False,
    track: Track = silent,
    tell: doubts.Tell = doubts.unheard,
) -> EvaluateReport:
    """Score `model` (and `other`) on labelled `data`; models are PyTorch networks (their names, or modules), .onnx
    files or bundles.

    `data` names a set or a file, or is the arrays (images, labels).
    `metric` scores in place of the task's, and needs no labels (edgecnn/evaluation/own_metric.py).
    `answer`: of a PyTorch network's several outputs the one that counts.
    `task` None takes what the model says of itself, else what its outputs look like. `labels` (a file) and `preprocess`
    hold for both; without them a model that says nothing of its classes or pixels takes those of the other.
    `batch` (None: 32) images are answered at once. `max_drop` and `min_metric` are limits, which decide the report's
    `failure`, and `sure` asks for the whole interval of what is lost: see `Limits`. `skip_unreadable` leaves out
    pictures that cannot be read. `tell` hears what was assumed before anything is scored; the report's `warnings` have
    it too.

    Raises `BadInput` for data without answers for that task, and for classes that do not fit.
    """
    sources = [source_of(given) for given in (model, other) if given is not None]
    names, input_shape = list(map(called, sources)), shape_text(input_shape)
    limits = Limits(max_drop, min_metric, sure)
    spec, own = given(data), own_metric(metric)
    limits.check(len(names), own.unit if own else "")
    edgecnn.tasks.require(task)
    subjects = opened(sources, weights, input_shape, threads, decode, task, answer)
    for subject in subjects:
        if not subject.inputs:
            raise BadInput(f"{subject.name}: takes no input, so there is nothing to score; give another model")
    task = task or task_of(subjects[0], known=own is None)
    if own is None and task == edgecnn.tasks.OTHER:
        raise BadInput(f"{names[0]}: its task is {task}, which has no metric here; {OWN}")
    how = own or edgecnn.tasks.load(task)
    classes = [named_of(subject, task) for subject in subjects]
    subjects = with_labels(with_pixels(subjects, preprocess), labels, classes)
    before = SeenBefore(spec, subjects)
    sift = track if skip_unreadable else None
    one = bool(input_shape)
    seen = [samples_for(subject, spec, task, limit, seed, own, before.learned, sift, one) for subject in subjects]
    samples, answers = seen[-1], [Answers(asked(subject, task, own)) for subject in subjects]
    uncounted = own or task == edgecnn.tasks.EMBEDDING or all(subject.labels for subject in subjects)
    counted_by = "" if uncounted else doubts.of_names(samples, "counted by")
    unscored = "" if own else left_out(task, samples)
    idle = (of_threads(sources, threads), *(of_batch(subject, batch) for subject in subjects))
    heard = (*idle, *all_heard(subjects, samples, spec, preprocess), counted_by, doubts.of_masks(samples), unscored)
    early = doubts.aloud(tell, doubts.told(*heard, *before.lines))
    scores: list[Score] = []
    for subject, runner, shown in zip(subjects, answers, seen, strict=True):
        shown = numbered_alike(shown, scores[0]) if scores else shown
        scores.append(score(how, replace(subject, runner=runner), shown, batch or BATCH, track))
    groups = together(answers)
    scores, samples = [replace(one, groups=groups) for one in scores], replace(samples, groups=groups)
    difference = -how.drop(scores[0], scores[1], seed=seed, track=track) if len(scores) == 2 else None
    seeded = tuple(subject.name for subject in subjects if subject.seeded)
    nonfinite = tuple(runner.nonfinite for runner in answers)
    judged = zip(subjects, scores, seen, answers, strict=True)
    chance = (by_chance(subject, one, replace(shown, groups=groups), runner) for subject, one, shown, runner in judged)
    told = doubts.told(*early, doubts.of_copies(samples), *map(of_numbers, names, scores), *chance)
    pairs = tuple(zip(names, scores, strict=True))
    ranges = tuple(interval(one, seed, track) for one in scores)
    return EvaluateReport(task, samples.name, pairs, difference, seeded, nonfinite, limits, told, before.held_out,
                          samples.unreadable, ranges)  # fmt: skip


def asked(subject: Subject, task: str, own: OwnMetric | None) -> Runner:
    """The runner of `subject`, its answers read for `task`; as they are for a metric of the user's own."""
    return subject.runner if own is not None else as_task(subject.runner, task, subject.sigmoid)


def by_chance(subject: Subject, found: Score, samples: Samples, answers: Answers) -> str:
    """The line that says that `subject` is no better than chance; empty where it is, and where no one trained it."""
    if subject.seeded:
        return ""
    if not subject.labels and found.metric == classification.METRIC:
        other = order_warning(subject.name, found.value, samples, answers.largest)
        if other:
            return other
    missed = missed_warning(subject.name, found, "other preprocessing or classes? see --preprocess, --labels")
    return missed or chance_warning(subject.name, found.metric, found.value, samples, classes_of(subject))


@dataclass
class Answers:
    """A runner that counts the images which it answers with NaN or infinity, and knows those that it has seen again."""

    runner: Runner
    nonfinite: int = 0
    marks: list[bytes] = field(default_factory=list)
    largest: list[int] = field(default_factory=list)
    """Where the largest number of an image's first answer is, of answers (N, classes)."""

    def __call__(self, feeds: Tensors) -> Tensors:
        found, images = self.runner(feeds), rows(feeds)
        self.marks += rows_of(feeds)
        first = next(iter(found.values()))
        self.largest += first.argmax(1).tolist() if first.ndim == 2 and first.shape[1] else []
        broken = np.zeros(images, bool)
        for value in found.values():
            wrong = ~np.isfinite(value) if value.dtype.kind == "f" else np.zeros(1, bool)
            by_image = value.ndim > 0 and len(value) == images
            broken |= wrong.reshape(images, -1).any(1) if by_image and wrong.any() else wrong.any()
        self.nonfinite += int(broken.sum())
        return found


def together(answers: Sequence[Answers]) -> Array | None:
    """Which images were copies of one another for all who answered; None where all differ."""
    return groups_of([b"".join(marks) for marks in zip(*(one.marks for one in answers), strict=True)])


def of_batch(subject: Subject, batch: int | None) -> str:
    """The line that a `batch` that was given does nothing for `subject`; empty where it does."""
    fixed = subject.inputs[0].shape[0]
    if batch is None or not isinstance(fixed, int) or fixed == batch:
        return ""
    return f"--batch {batch}: does nothing for {subject.name}, which takes {counted(fixed, 'image')} at a time"


def score(how: ModuleType | OwnMetric, subject: Subject, samples: Samples, batch: int, track: Track) -> Score:
    first = subject.inputs[0]
    fixed = 1 if isinstance(samples.preprocess, OwnSize) else first.shape[0]
    found: Score = how.score(subject.runner, samples, first.name, fixed if isinstance(fixed, int) else batch, track)
    return found


def task_of(subject: Subject, known: bool = True) -> str:
    """What the model says of itself, else the task whose answers its outputs look like.

    What is none of them raises `BadInput`, and where it need not be `known` is "other".
    """
    if subject.task is not None and subject.task != edgecnn.tasks.OTHER:
        return str(subject.task)
    names = {info.name for info in subject.outputs}
    if {"boxes", "scores", "labels", "image"} <= names:
        return "detection"
    ranks = [len(info.shape) for info in subject.outputs]
    if ranks in ([1], [2]):
        return "classification"
    if ranks == [4] or (ranks == [3] and is_whole(subject.outputs[0].dtype)):
        return "segmentation"
    if not known:
        return edgecnn.tasks.OTHER
    shown = ", ".join(f"{info.name} {list(info.shape)}" for info in subject.outputs) or "unknown outputs"
    raise BadInput(f"{subject.name}: answers {shown[:150]}, which no known task's metric fits; {OWN}")


def samples_for(
    subject: Subject, data: Spec, task: str, limit: int | None, seed: int, own: OwnMetric | None = None,
    learned: bool = False, sift: Track | None = None, one_size: bool = False,
) -> Samples:  # fmt: skip
    """`data` with answers, made ready for `subject`, its classes counted as the model counts them.

    For the user's `own` metric only images are needed. Of a set that it has `learned` from, what training held out.
    Not in `one_size`, pictures that a model of open size answers with pictures are shown in their own.
    """
    ready = subject.preprocess or ready_shape(subject.name, subject.inputs)
    if task == edgecnn.tasks.IMAGE and isinstance(ready, Preprocess) and are_open(subject.inputs[0].shape[1:]):
        ready = ready if one_size else in_own_size(ready, steps_of(subject.name))
    split, kept = part("test", data, None, learned), own is not None or task in edgecnn.tasks.NUMBERS
    wanted = rows_for(data, task, own is not None and own.asks_truth)
    samples = load_data(data, ready, limit=limit, split=split, seed=seed, task=wanted, as_truth=kept, sift=sift)
    if own is not None:
        return samples
    how = edgecnn.tasks.load(task)
    if task in edgecnn.tasks.NUMBERS and len(subject.outputs) > 1:
        raise BadInput(f"{subject.name}: has {len(subject.outputs)} outputs, {task} is scored on one; {OWN}")
    if not how.has_answers(samples):
        given = task in edgecnn.tasks.NUMBERS and not (samples.truth is None and samples.pictures is None)
        targets = "its targets are read with --task image" if samples.pictures is not None else unread(data)
        lacks = f"has no answers for {task}; {targets or how.WANTED}, or {OWN}"
        raise BadInput(f"{samples.name}: {how.why_not(samples) if given else lacks}")
    if task == edgecnn.tasks.EMBEDDING:
        return samples
    refuse_from_one(samples, classes_of(subject))
    if task == edgecnn.tasks.KEYPOINTS and not samples.class_names:
        return replace(samples, class_names=subject.labels)  # columns name no points
    if subject.labels:
        return samples.with_labels(subject.labels)
    if task in edgecnn.tasks.NUMBERS:
        return samples
    classes = classes_of(subject) if task != "detection" else None
    shape = subject.outputs[0].shape if subject.outputs else ()
    if samples.class_names and classes is not None and not counted_alike(samples, shape, classes):
        way = unread(data) or (OWN if is_one_score(shape) else _remedy(subject, len(samples.class_names)))
        raise BadInput(f"{whose_classes(samples, subject.name, shape, classes)}; {way}")
    return samples


def _remedy(subject: Subject, classes: int) -> str:
    """What gives a model the classes of the data: another file, or for a network other weights."""
    if is_model_file(subject.name):
        return "give its names in their order: --labels FILE"
    return f"give --weights trained on this data, or data of its classes: `edgecnn train {subject.name}` makes weights"


def named_of(subject: Subject, task: str) -> int | None:
    """How many names there are for what the first output tells apart in `task`, where that is known."""
    if task == "detection":
        return None
    if task not in edgecnn.tasks.NUMBERS:
        return classes_of(subject)
    sizes = subject.outputs[0].shape[1:] if subject.outputs else ()
    if task == edgecnn.tasks.KEYPOINTS:
        return count_of_points(sizes, Seen.of(subject.inputs[0].shape[1:]))
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], int) else None


def classes_of(subject: Subject) -> int | None:
    """How many classes the first output tells apart, where that is known."""
    return classes_told_apart(subject.outputs[0], subject.inputs[0]) if subject.outputs else None
