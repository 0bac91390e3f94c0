"""What an integer graph costs in accuracy, against the float graph, on labelled images or without labels.

    drop  =  metric lost on labelled images, else share of changed answers (of masks and labels the larger of that and
             what their overlap, or average precision, lacks), else the share of noise: in the power of the kind of
             numbers (boxes, scores) that has most, or in what rows of numbers vary by (comparing/row_noise.py)

Without labels the share of changed answers comes with its upper end: with n images and k changed, at 95 % confidence
the true share p solves P(X <= k; n, p) = 0.05. Of several labels or boxes an image, k is the share changed times n,
rounded up: as if all of an image changed together, which leaves most room. Source: Clopper and Pearson 1934, "The use
of confidence or fiducial limits illustrated in the case of the binomial". Of images that are copies of others n is how
many different ones they are worth (edgecnn/data/copies.py). Test: tests/test_choose.py, tests/test_copies.py.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx

from edgecnn import tasks
from edgecnn.choosing.float_answers import Remembering, alike
from edgecnn.choosing.trial import Trial
from edgecnn.data.copies import independent
from edgecnn.data.material import BY_IMAGE
from edgecnn.evaluation.scores import Agreement, Difference, Score, upper_bound
from edgecnn.evaluation.task_answers import as_task
from edgecnn.words import PLAIN
from runtimes.base import Track, silent
from runtimes.comparing.two_classes import is_one_score
from runtimes.parity import ParityReport, compare
from runtimes.session import Session, open_session

BROKEN = 1e9
"""What an answer with NaN or infinity costs where a metric has a unit: more than any budget."""
ROUNDING = 1e-9


def free_batch(session: Session) -> bool:
    """Whether the model takes any number of images at once; many exporters fix it to one."""
    return not any(isinstance(info.shape[0], int) for info in session.inputs)


@dataclass(frozen=True)
class Judgement:
    """What one integer graph costs: the fields of `Candidate`, and what the images said."""

    snr_db: float | None
    agreement: float | None
    accuracy: float | None
    drop: float
    drop_high: float | None
    words: str
    sure: bool = False

    @property
    def held(self) -> float:
        """What is held against the budget: the drop as measured, or where it has to be sure the most it may be.

        Infinite where labels judge and leave no interval of it; without labels not every task has one.
        """
        if not self.sure:
            return self.drop
        unknown = self.drop if self.accuracy is None else math.inf
        return unknown if self.drop_high is None else self.drop_high


class Judge:
    """Holds graphs against the `float_session` on the samples of the trial; the float answers are made once.

    `answers_of` opens a graph that is judged by `of`, which remembers what it said of the same graph.
    """

    def __init__(
        self,
        float_session: Session,
        trial: Trial,
        track: Track = silent,
        answers_of: Callable[[onnx.ModelProto], Session] = open_session,
    ) -> None:
        self.base, self.trial, self.track, self.answers_of = Remembering(float_session), trial, track, answers_of
        self.score: Score | None = self._score(float_session) if trial.labelled else None
        self.said: dict[bytes, Judgement] = {}
        self.alike: str | None = None
        """Why the answers that were compared tell little; empty where they do, None before the first comparison."""

    def of(self, model: onnx.ModelProto) -> Judgement:
        """What the integer graph `model` costs."""
        key = hashlib.blake2b(model.SerializeToString(deterministic=True)).digest()
        if key not in self.said:
            self.said[key] = self(self.answers_of(model))
        return self.said[key]

    def close(self) -> None:
        """Give the float session back, which holds all weights; graphs that were judged can still be asked for."""
        self.base.close()

    @property
    def value(self) -> float | None:
        """The metric of the float graph; None without labels."""
        return self.score.value if self.score else None

    def __call__(self, session: Session) -> Judgement:
        feeds = self.trial.samples.feeds(self.trial.input_name, 1)
        parity = compare(self.base, session, feeds, self.track)
        agreed = self._agreement(session, parity)
        if self.alike is None:
            self.alike = (
                "" if self.score else alike(as_task(self.base, self.trial.task, self.trial.sigmoid), self.trial)
            )
        accuracy, lost = None, None
        if self.score is not None and not parity.nonfinite:
            score = self._score(session)
            accuracy, lost = score.value, self.trial.rule.drop(self.score, score, self.trial.seed, self.track)
        drop, high = drop_of(parity, lost, agreed and replace(agreed, images=independent(self.trial.samples)))
        if lost is None and self.trial.task not in BY_IMAGE:
            high = None  # pixels of one image are not independent answers, and some change nearly always
        drop = BROKEN if parity.nonfinite and self.trial.unit else drop
        found = Judgement(parity.worst_db, agreed.share if agreed else None, accuracy, drop, high, "", self.trial.sure)
        words = self._words(parity, agreed, lost, found.held)
        return replace(found, words=words if found.held == drop else at_most(words))

    def _score(self, session: Session) -> Score:
        batch = 32 if free_batch(session) else 1
        runner = session if self.trial.own else as_task(session, self.trial.task, self.trial.sigmoid)
        found: Score = self.trial.rule.score(runner, self.trial.samples, self.trial.input_name, batch, self.track)
        return replace(found, groups=self.trial.samples.groups)

    def _agreement(self, session: Session, parity: ParityReport) -> Agreement | None:
        if self.trial.task == "classification" and parity.top1 is not None:
            return Agreement(parity.top1, parity.images)
        if self.trial.known is None or parity.nonfinite:
            return None
        if self.trial.task == "classification" and not is_one_score(session.outputs[0].shape):
            return None
        feeds = self.trial.samples.feeds(self.trial.input_name, 1)
        base, other = (as_task(runner, self.trial.task, self.trial.sigmoid) for runner in (self.base, session))
        found: Agreement | None = self.trial.known.agreement(base, other, feeds, self.track)
        return found

    def _words(self, parity: ParityReport, agreed: Agreement | None, lost: Difference | None, drop: float) -> str:
        if parity.nonfinite:
            return "answers with NaN or infinity"
        if lost is not None and lost.others is not None and math.isinf(drop):
            may = f"95 %: at most {percent(lost.others)} % of images count otherwise"
            return f"has no known interval of what it may lose of {self.trial.metric} ({may}), and --sure needs one"
        if lost is not None and self.trial.unit:
            unit = self.trial.unit
            return f"loses {drop:.3g} {unit} of {self.trial.metric} (budget {self.trial.max_drop:g} {unit})"
        if lost is not None and self.trial.metric in PLAIN:
            return f"loses {drop:.3g} of {self.trial.metric} (budget {self.trial.max_drop:g})"
        most, changed = percent(self.trial.max_drop), percent(drop)
        if changed == most and drop > self.trial.max_drop:
            changed = f"{100 * drop:.4g}"
        if lost is not None:
            return f"loses {changed} points of {self.trial.metric} (budget {most})"
        if agreed is not None and agreed.changed is not None and agreed.changed < agreed.lost:
            where = f"{len(self.trial.samples)} unlabelled images"
            return f"loses {changed} % of the {LACKS[self.trial.task]} on {where} (budget {most} %)"
        if agreed is not None:
            what = ANSWERS.get(self.trial.task, "the answer on")
            return f"changes {what} {changed} % of {_of(self.trial)} (budget {most} %)"
        return f"has {_noise(parity, changed)} (budget {most} %)"


def at_most(words: str) -> str:
    """
    >>> at_most("loses 2.3 points of top-1 (budget 1.0)")
    'may lose 2.3 points of top-1 (95 %; budget 1.0)'
    """
    for measured, possible in (("loses ", "may lose "), ("changes ", "may change "), ("(budget", "(95 %; budget")):
        words = words.replace(measured, possible, 1)
    return words


def percent(share: float) -> str:
    """
    >>> percent(0.0234), percent(0.00001), percent(0.0), percent(1.0)
    ('2.3', '0.001', '0', '100')
    """
    value = 100 * share
    return f"{value:.3g}" if value < 0.1 or value >= 99.95 else f"{value:.1f}"


def _noise(parity: ParityReport, share: str) -> str:
    """Where so many per cent of noise are: in which output of several, in which numbers of several kinds."""
    out = parity.noisiest
    if out.lost is not None and out.lost == out.noise:
        whose = f"{out.name} varies" if len(parity.outputs) > 1 else "its answers vary"
        return f"{share} % noise in what {whose} by from image to image"
    kind = out.worst_kind
    where = "" if kind is None else f" in {kind.words} of {out.name}"
    return f"{out.worst_db:.1f} dB SNR{where}, {share} % noise"


LACKS = {
    "segmentation": "overlap with the float graph's masks",
    tasks.MULTI_LABEL: "average precision of the float graph's labels",
    tasks.IMAGE: "likeness to the float graph's pictures (SSIM)",
    tasks.KEYPOINTS: "float graph's points (PCK)",
}
"""What is compared besides the share of answers that changed."""
ANSWERS = {"segmentation": "the class of", "detection": "boxes,", tasks.MULTI_LABEL: "labels,"}


def _of(trial: Trial) -> str:
    what = {"segmentation": "pixels on ", "detection": "all, on ", tasks.MULTI_LABEL: "all, on "}.get(trial.task, "")
    return f"{what}{len(trial.samples)} unlabelled images"


def drop_of(parity: ParityReport, lost: Difference | None, agreed: Agreement | None) -> tuple[float, float | None]:
    """(drop, upper end of its 95 % interval): the metric lost, else answers changed, else the share of noise."""
    if parity.nonfinite:
        return 1.0, None
    if lost is not None:
        return lost.value, lost.high if lost.images is None else None
    if agreed is not None:
        changed = agreed.lost
        return changed, upper_bound(math.ceil(changed * agreed.images - ROUNDING), agreed.images)
    return parity.noisiest.noise, None
