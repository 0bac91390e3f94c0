"""Which graph is shipped: the fastest one within the accuracy budget, proven by a race on the machine at hand.

    eligible(int8)  =  drop <= max_drop          drop: top-1 lost on labelled images, else share of changed answers
    chosen          =  int8 when eligible and its 95 % interval of t(float) / t(int8) lies above 1, else float

Of a detector an answer is a box that either graph is sure of. Where an output has no classes, `drop` is the noise power
in it: 10^(-SNR/10). int8 has to win; a draw is float's.
Test: tests/test_choose.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from edgecnn.samples import Samples
from edgecnn.tasks import classification, detection
from runtimes.base import Tensors, Track, silent
from runtimes.latency import Race, Ratio, race
from runtimes.parity import JSON_SNR_LIMIT, ParityReport, compare, json_number
from runtimes.session import Session, open_session

FLOAT, INT8 = "float", "int8"


@dataclass(frozen=True)
class Candidate:
    """One graph in the race. `snr_db` and `agreement` (share of equal answers) are against the float graph.

    `drop` is what the budget is held against; `refused` says why the graph is out, empty when it may win.
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

    def to_dict(self) -> dict[str, Any]:
        snr = None if self.snr_db is None else json_number(self.snr_db, JSON_SNR_LIMIT)
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "snr_db": snr, "speedup": self.speedup.to_dict() if self.speedup else None}


@dataclass(frozen=True)
class Trial:
    """On what and how the graphs are judged. `samples` with labels give accuracy, without them changed answers count.

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


@dataclass(frozen=True)
class Decision:
    """The outcome: `chosen` is a candidate's name, `verdict` the sentence that says why."""

    chosen: str
    verdict: str
    candidates: tuple[Candidate, ...]
    race: Race
    threads: int

    @property
    def rival(self) -> Candidate | None:
        """The int8 candidate, if there is one."""
        return next((c for c in self.candidates if c.name == INT8), None)

    @property
    def accuracy(self) -> dict[str, float] | None:
        """Top-1 of both graphs and what int8 loses; None without labels."""
        base, rival = self.candidates[0], self.rival
        if rival is None or base.accuracy is None or rival.accuracy is None:
            return None
        return {"float": base.accuracy, "int8": rival.accuracy, "drop": base.accuracy - rival.accuracy}


def decide(
    float_model: onnx.ModelProto, int8_model: onnx.ModelProto | None, trial: Trial, track: Track = silent
) -> Decision:
    """Race the float graph against the int8 graph (None: nothing could be int8) and choose within the budget."""
    models = {FLOAT: float_model} | ({INT8: int8_model} if int8_model is not None else {})
    sessions = {name: open_session(model, threads=trial.threads) for name, model in models.items()}
    feeds = trial.samples.feeds(trial.input_name, 1)
    run = race(
        {name: _call(session, feeds[0]) for name, session in sessions.items()},
        rounds=trial.rounds,
        seconds=trial.seconds,
        seed=trial.seed,
        threads=trial.threads,
        track=track,
    )
    scores = _scores(sessions, trial)
    base = Candidate(FLOAT, sessions[FLOAT].size_bytes, run.reports[FLOAT].p50_ms, accuracy=scores.get(FLOAT))
    if INT8 not in sessions:
        return Decision(FLOAT, "no layer of this network can be int8: kept float", (base,), run, trial.threads)
    parity = compare(sessions[FLOAT], sessions[INT8], feeds, track)
    agreement = parity.top1
    if parity.matching is not None:
        agreement = detection.agreement(sessions[FLOAT], sessions[INT8], feeds, track).share
    rival = _judge(sessions[INT8], run, parity, agreement, scores, trial.max_drop)
    chosen, verdict = _choose(base, rival, trial.allow_slower)
    return Decision(chosen, verdict, (base, rival), run, trial.threads)


def _call(session: Session, feed: Tensors) -> Callable[[], object]:
    raw, names, feeds = session.raw, [info.name for info in session.outputs], dict(feed)
    return lambda: raw.run(names, feeds)


def _scores(sessions: Mapping[str, Session], trial: Trial) -> dict[str, float]:
    if trial.samples.labels is None:
        return {}
    return {
        name: classification.score(session, trial.samples, trial.input_name, 32 if free_batch(session) else 1).value
        for name, session in sessions.items()
    }


def free_batch(session: Session) -> bool:
    """Whether the model takes any number of images at once; many exporters fix it to one."""
    return not isinstance(session.inputs[0].shape[0], int)


def _judge(
    session: Session,
    run: Race,
    parity: ParityReport,
    agreement: float | None,
    scores: Mapping[str, float],
    max_drop: float,
) -> Candidate:
    drop = drop_of(parity, scores, agreement)
    refused = "" if drop <= max_drop else _over_budget(parity, agreement, scores, drop, max_drop)
    return Candidate(
        INT8,
        session.size_bytes,
        run.reports[INT8].p50_ms,
        speedup=run.ratio(INT8, FLOAT),
        snr_db=parity.snr_db,
        agreement=agreement,
        accuracy=scores.get(INT8),
        drop=drop,
        refused=refused,
    )


def drop_of(parity: ParityReport, scores: Mapping[str, float], agreement: float | None) -> float:
    """What int8 costs, between 0 and 1: accuracy lost, else answers changed, else noise power in the output."""
    if parity.nonfinite:
        return 1.0
    if scores:
        return scores[FLOAT] - scores[INT8]
    if agreement is not None:
        return 1.0 - agreement
    return float(min(1.0, 10.0 ** (-parity.snr_db / 10.0)))


def _over_budget(
    parity: ParityReport, agreement: float | None, scores: Mapping[str, float], drop: float, max_drop: float
) -> str:
    if scores:
        what = f"loses {100 * drop:.1f} points of top-1"
    elif parity.matching is not None:
        what = f"changes {100 * drop:.1f} % of the boxes on {parity.images} unlabelled images"
    elif agreement is not None:
        what = f"changes the answer on {100 * drop:.1f} % of {parity.images} unlabelled images"
    else:
        what = f"has {parity.snr_db:.1f} dB SNR, {100 * drop:.1f} % noise,"
    return f"int8 {what} (budget {100 * max_drop:.1f} %)"


def _choose(base: Candidate, rival: Candidate, allow_slower: bool) -> tuple[str, str]:
    """(name, sentence). The budget comes first; then speed, which --allow-slower waives."""
    assert rival.speedup is not None
    ratio = rival.speedup
    speed = f"int8 is {ratio.ratio:.2f}x of float's speed on this CPU (95 %: {ratio.low:.2f} to {ratio.high:.2f})"
    if rival.refused:
        return FLOAT, f"{rival.refused}: kept float; labelled --data or a larger --max-drop may change that"
    if ratio.verdict == "faster":
        return INT8, f"{speed}, {_cost(base, rival)}: chose int8"
    if allow_slower:
        return INT8, f"{speed}, {_cost(base, rival)}: int8 because --allow-slower asks for it"
    if ratio.verdict == "slower":
        return FLOAT, f"{speed}: kept float; --allow-slower forces int8"
    return FLOAT, f"{speed}, no gain beyond the noise: kept float; --allow-slower forces int8"


def _cost(base: Candidate, rival: Candidate) -> str:
    if base.accuracy is not None and rival.accuracy is not None:
        return f"top-1 {100 * rival.accuracy:.1f} % against {100 * base.accuracy:.1f} %"
    if rival.agreement is not None:
        return f"same answer on {100 * rival.agreement:.1f} %"
    return f"SNR {rival.snr_db:.1f} dB"
