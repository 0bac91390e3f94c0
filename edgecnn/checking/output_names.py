"""What the outputs of two models under comparison are called, and what they may be.

    PyTorch (logits, boxes)  output_0, output_1      the file: cls, box      both are cls, box

Test: tests/test_output_names.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edgecnn.runners import Subject
from edgecnn.tasks import NUMBERS, OTHER
from runtimes.base import BadInput, Runner, Tensors
from runtimes.execution.model_file import is_model_file

CLASSIFICATION = "classification"


def called_alike(subjects: Sequence[Subject]) -> list[Subject]:
    """`subjects`; a PyTorch network beside a file answers under the file's names: nobody gave its own any."""
    files = [subject for subject in subjects if is_model_file(subject.name)]
    if len(files) != 1 or len(subjects) != 2:
        return list(subjects)
    names = [info.name for info in files[0].outputs]
    return [subject if subject is files[0] else _renamed(subject, names) for subject in subjects]


def _renamed(subject: Subject, names: Sequence[str]) -> Subject:
    again = subject.again

    def open_again() -> Runner:
        assert again is not None
        return _under(again(), names)

    more: Callable[[], Runner] | None = None if again is None else open_again
    return replace(subject, runner=_under(subject.runner, names), again=more)


def _under(runner: Runner, names: Sequence[str]) -> Runner:
    """`runner` with outputs called `names` in their order, where it has as many of other names."""

    def run(feeds: Tensors) -> Tensors:
        made = runner(feeds)
        if len(made) != len(names) or set(made) == set(names):
            return made
        return dict(zip(names, made.values(), strict=True))

    return run


def require_classes(subjects: Sequence[Subject], top1: float | None) -> Sequence[Subject]:
    """`subjects`; raises `BadInput` where `top1` is asked of one that says that its answers are no classes."""
    for subject in subjects:
        if top1 is not None and subject.task in NUMBERS and subject.task != OTHER:
            task = f"the task of {subject.name} is {subject.task}, whose answers are no classes"
            raise BadInput(f"--top1 {top1:g}: {task}; leave it out, and give --snr-db or --atol")
    return subjects


def classes_known(subjects: Sequence[Subject]) -> bool:
    """Whether columns of an output may be scores of classes: none of `subjects` says that its task is another."""
    return all(subject.task in (None, CLASSIFICATION) for subject in subjects)
