"""What `evaluate` found: scores, their difference, the limits that hold and those that do not, in words.

Test: tests/test_evaluate.py, tests/test_own_metric.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgecnn.data.copies import different
from edgecnn.evaluation.interval import Interval
from edgecnn.evaluation.limits import NO_LIMITS, Limits
from edgecnn.evaluation.scores import Difference, Score
from edgecnn.words import PLAIN, percent, worth
from runtimes.base import CheckFailed, Inconclusive, counted


@dataclass(frozen=True)
class EvaluateReport:
    """Scores of one or two models on the same images; `difference` is the second's minus the first's.

    `seeded` names the PyTorch networks that no weights were given for; `nonfinite` counts the images that a model
    answered with NaN or infinity, which is a wrong answer. `limits` are what was asked for.
    """

    task: str
    data: str
    models: tuple[tuple[str, Score], ...]
    difference: Difference | None
    seeded: tuple[str, ...] = ()
    nonfinite: tuple[int, ...] = (0, 0)
    limits: Limits = NO_LIMITS
    warnings: tuple[str, ...] = ()
    """What a user should hear beside the result (edgecnn/doubts.py)."""
    held_out: bool = False
    """Only what training held out of `data` was judged: a model has learned from the rest."""
    unreadable: tuple[str, ...] = ()
    """Pictures of `data` that were left out."""
    intervals: tuple[Interval | None, ...] = (None, None)
    """Of each model's metric, 95 %; None where all draws of these images have the same value."""

    @property
    def on(self) -> str:
        """`20 images of photos`, and which."""
        which = ", the fifth that training held out" if self.held_out else ""
        return f"{counted(self.images, 'image')} of {self.data}{which}"

    @property
    def passed(self) -> bool | None:
        """Whether all limits hold; None where none was given, and where one that is to hold for `sure` may not."""
        undecided = self.limits == NO_LIMITS or (self.unsure and not self.failures)
        return None if undecided else not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence for each limit that does not hold: by the measured value, for `sure` by all of the interval."""
        (first, _), (last, score) = self.models[0], self.models[-1]
        lines = list[str]()
        on, lost = f"on {self.on}", self._lost
        if lost is not None and self._holds is False:
            amount = f"at least {self._amount(lost.low)}" if self.limits.sure else self._amount(lost.value)
            lines.append(f"{last}: loses {amount} of {self.metric} against {first} {on}, {self._allowed}")
        if self._reaches is False:
            value = self._measured(len(self.models) - 1) if self.limits.sure else self._worth(score)
            lines.append(f"{last}: {self.metric} {value} {on}, {self._wanted}")
        return tuple(lines)

    @property
    def unsure(self) -> str:
        """What says that a limit may hold or not; empty where that is decided."""
        return "; ".join(filter(None, (self._unsure_of_drop, self._unsure_of_metric)))

    @property
    def _unsure_of_metric(self) -> str:
        if self._reaches is not None:
            return ""
        last, said = self.models[-1][0], self._measured(len(self.models) - 1)
        known = "" if self.intervals[len(self.models) - 1] else ", of which no interval is known"
        return f"{last}: {self.metric} {said}{known} on {self.on}, {self._wanted}: more images would tell"

    @property
    def _unsure_of_drop(self) -> str:
        (first, _), (last, _) = self.models[0], self.models[-1]
        if self._lost is None or self._holds is not None:
            return ""
        most = f"may lose up to {self._amount(self._lost.high)} of {self.metric} against {first} (95 %)"
        if (others := self._lost.others) is not None:
            most = f"has no known interval of what it loses of {self.metric} against {first} ({_otherwise(others)})"
        return f"{last}: {most} on {self.on}, {self._allowed}: more images would tell"

    @property
    def failure(self) -> CheckFailed | Inconclusive | None:
        """What the command line exits with: None where every limit holds."""
        if self.failures:
            return CheckFailed("; ".join(self.failures))
        return Inconclusive(self.unsure) if self.unsure else None

    @property
    def _lost(self) -> Difference | None:
        """What the second model loses against the first."""
        return None if self.difference is None else -self.difference

    @property
    def _holds(self) -> bool | None:
        """Whether --max-drop holds; None where only a part of the interval that must be within is, or there is none."""
        most, lost = self.limits.max_drop, self._lost
        if most is None or lost is None:
            return True
        if not self.limits.sure:
            return lost.value <= most
        if lost.others is not None:
            return None
        return True if lost.high <= most else False if lost.low > most else None

    @property
    def _reaches(self) -> bool | None:
        """Whether --min-metric holds; None where its interval has the limit in it, or there is none."""
        least, place = self.limits.min_metric, len(self.models) - 1
        if least is None:
            return True
        if not self.limits.sure:
            return self.models[place][1].value >= least
        found = self.intervals[place]
        if found is None:
            return None
        return True if found.low >= least else False if found.high < least else None

    @property
    def _wanted(self) -> str:
        return f"--min-metric wants {self._worth(self.models[-1][1], self.limits.min_metric)}"

    @property
    def _allowed(self) -> str:
        return f"--max-drop allows {self._amount(self.limits.max_drop or 0.0).partition(' ')[0]}"

    @property
    def broken(self) -> tuple[str, ...]:
        """One sentence for each model that answers with NaN or infinity."""
        return tuple(
            f"{name}: answers {count} of {counted(self.images, 'image')} with NaN or infinity, which counts as wrong"
            for (name, _), count in zip(self.models, self.nonfinite, strict=False)
            if count
        )

    @property
    def metric(self) -> str:
        return self.models[0][1].metric

    @property
    def images(self) -> int:
        return self.models[0][1].images

    @property
    def distinct(self) -> int:
        """How many of the images are no copies of others."""
        return different(self.models[0][1].groups, self.images)

    @property
    def verdict(self) -> str:
        said = self._found
        for words, passed in (("NOT within", False), ("Too few images to tell whether within", None), ("Within", True)):
            limits = [str(one) for one in self.limits.each if replace(self, limits=one).passed is passed]
            said += f" {words} {' and '.join(limits)}." if limits else ""
        return said

    def _measured(self, place: int) -> str:
        """`98.89% (95 %: 97.42% to 99.53%)`, without what is in brackets where it is not known."""
        score, found = self.models[place][1], self.intervals[place]
        value = self._worth(score)
        return f"{value} (95 %: {self.range(place)})" if found else value

    def range(self, place: int) -> str:
        """`97.42% to 99.53%`, the interval of that model; `-` where none is known."""
        score, found = self.models[place][1], self.intervals[place]
        return f"{self._worth(score, found.low)} to {self._worth(score, found.high)}" if found else "-"

    def _worth(self, score: Score, value: float | None = None) -> str:
        return worth(score.value if value is None else value, score.unit, self.metric)

    def _amount(self, lost: float) -> str:
        """`1.23 points`, `0.40 dB`, or `0.0123` of a metric that is no share."""
        unit = self.models[0][1].unit
        if not unit and self.metric in PLAIN:
            return f"{lost:.4f}"
        return f"{lost:.2f} {unit}" if unit else f"{100 * lost:.2f} points"

    @property
    def _found(self) -> str:
        (first, score), *others = self.models
        on = self.on
        if not others or self.difference is None:
            return f"{first}: {self.metric} {self._measured(0)} on {on}."
        found, second = self.difference, others[0][0]
        low, value, high = (signed(v, score.unit, self.metric) for v in (found.low, found.value, found.high))
        interval = f"95 %: {low} to {high}"
        if found.others is not None:
            interval = _otherwise(found.others)
        what = f"{value} {score.unit or 'points'}" if score.unit or self.metric not in PLAIN else value
        apart = f"{second} has {what} of {self.metric} against {first} ({interval}) on {on}"
        nothing = float(low) == float(high) == 0  # float32 rounds otherwise: a continuous metric shows it on all images
        if nothing or found.others is not None or found.low <= 0 <= found.high:
            return f"{apart}: no difference that these images can tell."
        return f"{apart}: it is {'better' if found.low > 0 else 'worse'}."

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "limits": vars(self.limits),
            "metric": self.metric,
            **({"unit": self.models[0][1].unit} if self.models[0][1].unit else {}),
            "task": self.task,
            "data": self.data,
            "images": self.images,
            "distinct_images": self.distinct,
            "held_out": self.held_out,
            "models": [
                {"model": name, "value": score.value, **_ends(found), "nonfinite": count, **score.details}
                | _reading(score)
                for (name, score), count, found in zip(self.models, self.nonfinite, self.intervals, strict=False)
            ],
            "difference": self.difference.to_dict() if self.difference else None,
            "seeded_weights": bool(self.seeded),
            "warnings": list(self.warnings),
            "unreadable": list(self.unreadable),
        }


def signed(value: float, unit: str, metric: str = "") -> str:
    """A difference: in points, in the metric's unit, or as it is."""
    if unit:
        return f"{value:+.3g}"
    return f"{value:+.4f}" if metric in PLAIN else f"{100 * value:+.2f}"


def _otherwise(share: float) -> str:
    return f"95 %: at most {percent(share)} of images count otherwise"


def _ends(found: Interval | None) -> dict[str, float | None]:
    return {"low": None, "high": None} if found is None else {"low": found.low, "high": found.high}


def _reading(score: Score) -> dict[str, Any]:
    return {"class_numbers": dict(score.reading)} if score.reading is not None else {}
