"""Images that a model has seen before it is judged: those that it learned from, and those that set its int8 ranges.

    the set that its weights have learned from    the fifth that training held out is judged, and nothing else
    another set under that name                   all is judged, and a line says what may be among it
    the set that calibrated it                    all is judged, and a line says so

Who does not say what it has seen is judged on all. Test: tests/test_seen_before.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from edgecnn.data.fingerprint import DataSet, fingerprint
from edgecnn.data.given import InMemory, Spec
from edgecnn.data.parted import part
from edgecnn.runners import Subject


def learned_from(subjects: Sequence[Subject]) -> tuple[DataSet, ...]:
    """The sets that one of `subjects` has learned from: all are judged on the same images."""
    return tuple(dict.fromkeys(known for subject in subjects for known in subject.trained_on))


def is_held_out(spec: Spec, subjects: Sequence[Subject]) -> bool:
    """Whether it is for what `subjects` have learned from that not all of `spec` is judged."""
    return part("test", spec, None) == "all" and part("test", spec, None, learned_from(subjects)) == "test"


def seen_before(spec: Spec, subjects: Sequence[Subject]) -> tuple[str, ...]:
    """The lines about images that some of `subjects` have seen and that are judged all the same."""
    if part("test", spec, None) == "test":
        return ()
    held = is_held_out(spec, subjects)
    lines = [] if held else [_other_under(spec, subject) for subject in subjects]
    return (*lines, *(_calibrated(spec, subject, held) for subject in subjects))


def _other_under(spec: Spec, subject: Subject) -> str:
    named = [os.path.normpath(known.name) for known in subject.trained_on]
    if isinstance(spec, InMemory) or os.path.normpath(spec) not in named:
        return ""
    return (
        f"{spec}: has changed since {subject.name} was trained on data of that name; all of it is judged, "
        "and what it was trained on may be among that: judge on images of their own"
    )


def _calibrated(spec: Spec, subject: Subject, held: bool) -> str:
    """What is held out for a model's weights did not calibrate it either, where it knew of them."""
    known = subject.calibrated_on
    if not known or known != fingerprint(spec) or (held and known in (mark for _, mark in subject.trained_on)):
        return ""
    return (
        f"{subject.name}: was calibrated on {spec}; the images that set its int8 ranges are among those judged, "
        "which flatters it: judge on images of their own"
    )
