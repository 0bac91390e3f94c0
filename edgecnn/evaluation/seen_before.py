"""Images that a model has seen before it is judged: those that it learned from, and those that set its int8 ranges.

    the set that its weights have learned from    the fifth that training held out is judged, and nothing else
    another set under that name                   all is judged, and a line says what may be among it
    any set, by weights of before fingerprints    the same
    the set that calibrated it                    all is judged, and a line says so

Who does not say what it has seen is judged on all. Test: tests/test_seen_before.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from edgecnn.data.built_in import recorded
from edgecnn.data.data_argument import InMemory, Spec
from edgecnn.data.fingerprint import fingerprint, is_marked
from edgecnn.data.parts import part
from edgecnn.runners import Subject


@dataclass(frozen=True)
class SeenBefore:
    """What some of `subjects` have seen of `spec`; that is read for its fingerprint once, and only where one counts."""

    spec: Spec
    subjects: Sequence[Subject]

    @cached_property
    def learned(self) -> bool:
        """Whether one of them has learned from it: all are judged on the same images."""
        return any(is_marked(self._mark, subject.trained_on) for subject in self.subjects)

    @property
    def held_out(self) -> bool:
        """Whether it is for what they have learned from that not all of it is judged."""
        return self.learned and part("test", self.spec, None) == "all"

    @property
    def lines(self) -> tuple[str, ...]:
        """What to say of images that some have seen and that are judged all the same."""
        if part("test", self.spec, None) == "test":
            return ()
        asked = [self._calibrated] if self.held_out else [self._other_under, self._unmarked, self._calibrated]
        return tuple(line for ask in asked for line in map(ask, self.subjects) if line)

    @cached_property
    def _mark(self) -> str:
        marks = [mark for subject in self.subjects for _, mark in subject.trained_on]
        says = any(marks) or any(subject.calibrated_on for subject in self.subjects)
        return fingerprint(self.spec) if says else ""

    def _unmarked(self, subject: Subject) -> str:
        """What it was trained on before weights kept a fingerprint may be anything, wherever it lies now."""
        names = [known.name for known in subject.trained_on if not known.fingerprint]
        if not names:
            return ""
        return (
            f"{subject.name}: was trained on {', '.join(names)} by an older edgecnn, which kept no fingerprint of it; "
            f"all of {self.spec} is judged, and may have been seen in training: judge on images of their own, or train "
            "anew"
        )

    def _other_under(self, subject: Subject) -> str:
        named = [known.name for known in subject.trained_on if known.fingerprint]
        if isinstance(self.spec, InMemory) or recorded(self.spec) not in named:
            return ""
        return (
            f"{self.spec}: has changed since {subject.name} was trained on data of that name, or is another set; all "
            "of it is judged, and what it was trained on may be among that: judge on images of their own"
        )

    def _calibrated(self, subject: Subject) -> str:
        """What is held out for a model's weights did not calibrate it either, where it knew of them."""
        known = subject.calibrated_on
        if not known or known != self._mark or (self.held_out and is_marked(known, subject.trained_on)):
            return ""
        return (
            f"{subject.name}: was calibrated on {self.spec}; the images that set its int8 ranges are among those "
            "judged, which flatters it: judge on images of their own"
        )
