"""Which graph is shipped: the fastest one within the accuracy budget, proven by a race on the machine at hand.

    eligible(g)  =  drop(g) <= max_drop       drop: metric lost on labelled images, else share of changed answers
    chosen       =  the fastest eligible g whose 95 % interval of t(float) / t(g) lies above 1, else float

An answer is what the task says: the class of an image, of a pixel, a box that a network is sure of. Where an output has
no such meaning, `drop` is the noise power in it: 10^(-SNR/10). An integer graph has to win; a draw is float's. Without
labels the share of changed answers comes with its upper end: with n images and k changed, at 95 % confidence
the true share p solves P(X <= k; n, p) = 0.05 (Clopper and Pearson 1934, "The use of confidence or fiducial limits").
Test: tests/test_choose.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from edgecnn import tasks
from edgecnn.samples import Samples
from edgecnn.scores import Agreement, Difference, Score
from runtimes import plugins
from runtimes.base import Tensors, Track, silent
from runtimes.latency import Race, Ratio, race
from runtimes.parity import JSON_SNR_LIMIT, ParityReport, compare, json_number
from runtimes.session import Session, open_session

FLOAT, INT8, MIXED = "float", "int8", "mixed"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Entry:
    """A graph that takes part. `kind` is float, int8 or mixed; one without ranges of its own only shows its speed."""

    model: onnx.ModelProto
    kind: str
    only_speed: str = ""
    """Why it cannot be chosen (`ranges of one image`), empty when it can."""


@dataclass(frozen=True)
class Candidate:
    """One graph in the race. `snr_db` and `agreement` (share of equal answers) are against the float graph.

    `accuracy` is the task's metric. `drop` is what the budget is held against, `drop_high` the upper end of its 95 %
    interval; `refused` says why the graph is out, empty when it may win.
    """

    name: str
    size_bytes: int
    p50_ms: float
    speedup: Ratio | None = None
    snr_db: float | None = None
    agreement: float | None = None
    accuracy: float | None = None
    drop: float | None = None
    refused: str = ""
    kind: str = FLOAT
    drop_high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        snr = None if self.snr_db is None else json_number(self.snr_db, JSON_SNR_LIMIT)
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "snr_db": snr, "speedup": self.speedup.to_dict() if self.speedup else None}


@dataclass(frozen=True)
class Trial:
    """On what and how the graphs are judged. Labelled `samples` give the metric, others the share of changed answers.

    `max_drop` is a share (0.01: one point); `allow_slower` lets int8 win without being faster. The race runs on one
    image and `threads` threads for at most `rounds` rounds or `seconds` seconds.
    """

    samples: Samples
    input_name: str
    max_drop: float = 0.01
    allow_slower: bool = False
    threads: int = 1
    rounds: int = 300
    seconds: float = 5.0
    seed: int = 0
    task: str = "classification"

    @property
    def rule(self) -> Any:
        """The file of the task in `edgecnn/tasks`; None for outputs without a meaning that is known here."""
        return plugins.load(tasks, self.task, "task") if self.task in plugins.names(tasks) else None

    @property
    def labelled(self) -> bool:
        return self.rule is not None and bool(self.rule.has_answers(self.samples))

    @property
    def metric(self) -> str:
        return str(self.rule.METRIC) if self.rule is not None else ""


@dataclass(frozen=True)
class Decision:
    """The outcome: `winner` is a candidate's name, `verdict` the sentence that says why."""

    winner: str
    verdict: str
    candidates: tuple[Candidate, ...]
    race: Race
    threads: int
    metric: str = "top-1"

    @property
    def chosen(self) -> str:
        """float, int8 or mixed."""
        return next(c.kind for c in self.candidates if c.name == self.winner)

    @property
    def rival(self) -> Candidate | None:
        """The integer candidate that won or came nearest to it, if there is one."""
        return best_of(self.candidates)

    @property
    def accuracy(self) -> dict[str, float] | None:
        """The metric of both graphs and what int8 loses; None without labels."""
        base, rival = self.candidates[0], self.rival
        if rival is None or base.accuracy is None or rival.accuracy is None:
            return None
        return {"float": base.accuracy, "int8": rival.accuracy, "drop": base.accuracy - rival.accuracy}


def decide(entries: Mapping[str, Entry], trial: Trial, track: Track = silent) -> Decision:
    """Race all `entries` (the first is the float graph) and choose within the budget."""
    sessions = {name: open_session(entry.model, threads=trial.threads) for name, entry in entries.items()}
    first, *others = sessions
    feed = trial.samples.feeds(trial.input_name, 1)[0]
    run = race(
        {name: _call(session, feed) for name, session in sessions.items()},
        rounds=trial.rounds,
        seconds=trial.seconds,
        seed=trial.seed,
        threads=trial.threads,
        track=track,
    )
    judge = Judge(sessions[first], trial, track)
    found = [Candidate(first, sessions[first].size_bytes, run.reports[first].p50_ms, accuracy=judge.value)]
    for name in others:
        size, p50 = sessions[name].size_bytes, run.reports[name].p50_ms
        raced = Candidate(name, size, p50, run.ratio(name, first), kind=entries[name].kind)
        why = entries[name].only_speed
        found.append(judged(raced, judge(sessions[name]), trial) if not why else _out(raced, why))
    winner, verdict = choose(found, trial)
    return Decision(winner, verdict, tuple(found), run, trial.threads, trial.metric)


def _call(session: Session, feed: Tensors) -> Callable[[], object]:
    raw, names, feeds = session.raw, [info.name for info in session.outputs], dict(feed)
    return lambda: raw.run(names, feeds)


def free_batch(session: Session) -> bool:
    """Whether the model takes any number of images at once; many exporters fix it to one."""
    return not isinstance(session.inputs[0].shape[0], int)


# ------------------------------------------------------------------------------------------------------------- judging
@dataclass(frozen=True)
class Judgement:
    """What one integer graph costs: the fields of `Candidate`, and what the images said."""

    snr_db: float | None
    agreement: float | None
    accuracy: float | None
    drop: float
    drop_high: float | None
    words: str


class Judge:
    """Holds graphs against the `float_session` on the samples of the trial; the float answers are scored once."""

    def __init__(self, float_session: Session, trial: Trial, track: Track = silent) -> None:
        self.base, self.trial, self.track = float_session, trial, track
        self.score: Score | None = self._score(float_session) if trial.labelled else None

    @property
    def value(self) -> float | None:
        """The metric of the float graph; None without labels."""
        return self.score.value if self.score else None

    def __call__(self, session: Session) -> Judgement:
        feeds = self.trial.samples.feeds(self.trial.input_name, 1)
        parity = compare(self.base, session, feeds, self.track)
        agreed = self._agreement(session, parity)
        accuracy, lost = None, None
        if self.score is not None and not parity.nonfinite:
            score = self._score(session)
            accuracy, lost = score.value, self.trial.rule.drop(self.score, score, self.trial.seed)
        drop, high = drop_of(parity, lost, agreed)
        if lost is None and self.trial.task != "classification":
            high = None  # pixels and boxes of one image are not independent answers
        words = self._words(parity, agreed, lost, drop)
        return Judgement(parity.snr_db, agreed.share if agreed else None, accuracy, drop, high, words)

    def _score(self, session: Session) -> Score:
        batch = 32 if free_batch(session) else 1
        found: Score = self.trial.rule.score(session, self.trial.samples, self.trial.input_name, batch, self.track)
        return found

    def _agreement(self, session: Session, parity: ParityReport) -> Agreement | None:
        if self.trial.task == "classification":
            return None if parity.top1 is None else Agreement(parity.top1, parity.images)
        if self.trial.rule is None or parity.nonfinite:
            return None
        feeds = self.trial.samples.feeds(self.trial.input_name, 1)
        found: Agreement = self.trial.rule.agreement(self.base, session, feeds, self.track)
        return found

    def _words(self, parity: ParityReport, agreed: Agreement | None, lost: Difference | None, drop: float) -> str:
        if parity.nonfinite:
            return "answers with NaN or infinity"
        if lost is not None:
            return f"loses {100 * drop:.1f} points of {self.trial.metric}"
        if agreed is not None:
            return f"changes {ANSWERS.get(self.trial.task, 'the answer on')} {100 * drop:.1f} % of {_of(self.trial)}"
        return f"has {parity.snr_db:.1f} dB SNR, {100 * drop:.1f} % noise,"


ANSWERS = {"segmentation": "the class of", "detection": "boxes,"}


def _of(trial: Trial) -> str:
    what = {"segmentation": "pixels on ", "detection": "all, on "}.get(trial.task, "")
    return f"{what}{len(trial.samples)} unlabelled images"


def drop_of(parity: ParityReport, lost: Difference | None, agreed: Agreement | None) -> tuple[float, float | None]:
    """(drop, upper end of its 95 % interval): the metric lost, else answers changed, else noise power in the output."""
    if parity.nonfinite:
        return 1.0, None
    if lost is not None:
        return lost.value, lost.high
    if agreed is not None:
        changed = 1.0 - agreed.share
        return changed, upper_bound(round(changed * agreed.images), agreed.images)
    return float(min(1.0, 10.0 ** (-parity.snr_db / 10.0))), None


def upper_bound(changed: int, images: int, confidence: float = CONFIDENCE) -> float:
    """The largest share of changed answers that `changed` of `images` leave possible.

    >>> round(upper_bound(0, 30), 3), round(upper_bound(3, 100), 3), upper_bound(5, 5)
    (0.095, 0.076, 1.0)
    """
    if changed >= images:
        return 1.0
    low, high = changed / images, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(changed, images, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(k: int, n: int, p: float) -> float:
    """P(X <= k) of a binomial (n, p), 0 < p < 1."""
    whole = math.lgamma(n + 1)
    terms = (
        whole - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    )
    return min(1.0, math.fsum(map(math.exp, terms)))


def judged(raced: Candidate, found: Judgement, trial: Trial) -> Candidate:
    """`raced` with what it costs; refused when that is over the budget."""
    over = found.drop > trial.max_drop
    refused = f"{raced.name} {found.words} (budget {100 * trial.max_drop:.1f} %)" if over else ""
    return Candidate(
        raced.name, raced.size_bytes, raced.p50_ms, raced.speedup, found.snr_db, found.agreement, found.accuracy,
        found.drop, refused, raced.kind, found.drop_high,
    )  # fmt: skip


def _out(raced: Candidate, why: str) -> Candidate:
    return Candidate(raced.name, raced.size_bytes, raced.p50_ms, raced.speedup, refused=why, kind=raced.kind)


# ------------------------------------------------------------------------------------------------------------ choosing
def best_of(candidates: tuple[Candidate, ...] | list[Candidate]) -> Candidate | None:
    """The integer candidate to talk about: within the budget before outside it, judged before not, then the fastest."""
    rivals = [(not c.refused, c.drop is not None, c.speedup.ratio, c) for c in candidates if c.speedup is not None]
    return max(rivals, key=lambda rank: rank[:3])[3] if rivals else None


def choose(candidates: list[Candidate], trial: Trial) -> tuple[str, str]:
    """(name of the winner, sentence). The budget comes first; then speed, which --allow-slower waives."""
    base, rival = candidates[0], best_of(candidates)
    if rival is None:
        return base.name, "no layer of this network can be int8: kept float"
    ratio = rival.speedup
    assert ratio is not None
    interval = f"(95 %: {ratio.low:.2f} to {ratio.high:.2f})"
    speed = f"{rival.name} is {ratio.ratio:.2f}x of float's speed on this CPU {interval}"
    if rival.refused:
        return base.name, f"{rival.refused}: kept float; labelled --data or a larger --max-drop may change that"
    if ratio.verdict == "faster":
        return rival.name, f"{speed}, {_cost(base, rival, trial)}: chose {rival.name}"
    if trial.allow_slower:
        return rival.name, f"{speed}, {_cost(base, rival, trial)}: {rival.name} because --allow-slower asks for it"
    if ratio.verdict == "slower":
        return base.name, f"{speed}: kept float; --allow-slower forces int8"
    return base.name, f"{speed}, no gain beyond the noise: kept float; --allow-slower forces int8"


def _cost(base: Candidate, rival: Candidate, trial: Trial) -> str:
    if base.accuracy is not None and rival.accuracy is not None:
        return f"{trial.metric} {100 * rival.accuracy:.1f} % against {100 * base.accuracy:.1f} %"
    if rival.agreement is not None:
        return f"same answer on {100 * rival.agreement:.1f} %"
    return f"SNR {rival.snr_db:.1f} dB"
