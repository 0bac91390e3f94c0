"""Which graph is shipped: the fastest one within the accuracy budget, proven by a race on the machine at hand.

    eligible(g)  =  drop(g) <= max_drop       drop: metric lost on labelled images, else share of changed answers, of
                                              masks and labels what their agreement lacks
    chosen       =  the fastest eligible g whose 95 % interval of t(float) / t(g) lies above 1, else float

What a graph costs is measured in `judge`. An integer graph has to win; a draw is float's, and what a second, longer
race cannot tell either. On several threads only wall time can be read, and beside busy neighbours a graph may wait for
good in one session and not in another: what wins there must not lose on one thread, in CPU time.
Test: tests/test_choose.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from edgecnn.choosing.judge import Judge, Judgement, percent
from edgecnn.choosing.trial import Trial
from edgecnn.data.copies import distinct
from edgecnn.evaluation.scores import upper_bound
from edgecnn.tasks import IMAGE, KEYPOINTS, MULTI_LABEL
from edgecnn.words import PLAIN, valued
from exporters.quantization.kernels import layers_in_half
from exporters.targets.cpu_target import this_cpu
from runtimes.base import Tensors, Track, counted, silent
from runtimes.latency import LONGER, Race, Ratio, race
from runtimes.parity import JSON_SNR_LIMIT, json_number
from runtimes.session import open_session

FLOAT, INT8, MIXED = "float", "int8", "mixed"
DRAW = 0.98
"""Share of the best speed that counts as the same: what two sessions of one file may differ by."""
NO_LAYER = "no layer of this network can be int8: kept float"
AGREED = {
    "segmentation": "masks overlap the float graph's by {} %, edges aside",
    MULTI_LABEL: "finds the float graph's labels with {} % average precision",
    IMAGE: "pictures are {} % like the float graph's (SSIM)",
    KEYPOINTS: "points are {} % where the float graph's are (PCK)",
}
"""How far answers without truth agree, where that is more than a share of them (judge.py)."""
HALF_CAUSE = "compute in float16, where int8 cannot start: export the network in float32, and quantize that"


@dataclass(frozen=True)
class Entry:
    """A graph that takes part. `kind` is float, int8 or mixed; one without ranges of its own only shows its speed."""

    model: onnx.ModelProto
    kind: str
    only_speed: str = ""
    """Why it cannot be chosen (`ranges of one image`), empty when it can."""


@dataclass(frozen=True)
class Candidate:
    """One graph in the race; without times where it could not be raced.

    `p50_ms` is on the clock of the race: CPU time on one thread. `snr_db` and `agreement` (share of equal answers, or
    how far masks and labels agree) are against the float graph. `accuracy` is the task's metric.
    `drop` is what the budget is held against, `drop_high` the upper end of its 95 % interval; `refused` says why the
    graph is out, empty when it may win.
    """

    name: str
    size_bytes: int
    p50_ms: float | None
    speedup: Ratio | None = None
    snr_db: float | None = None
    agreement: float | None = None
    accuracy: float | None = None
    drop: float | None = None
    refused: str = ""
    kind: str = FLOAT
    drop_high: float | None = None
    unit: str = ""
    """Of `accuracy` and `drop`, where they are no shares."""
    alone: Ratio | None = None
    """Its speed over float's on one thread, in CPU time, where the race was on several and it won."""

    def to_dict(self) -> dict[str, Any]:
        snr = None if self.snr_db is None else json_number(self.snr_db, JSON_SNR_LIMIT)
        left_out = {name for name in ("unit", "alone") if not getattr(self, name)}
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in left_out}
        ratios = {name: ratio.to_dict() for name, ratio in values.items() if isinstance(ratio, Ratio)}
        return {**values, "snr_db": snr, **ratios}


@dataclass(frozen=True)
class Decision:
    """The outcome: `winner` is a candidate's name, `verdict` the sentence that says why. No `race`: another CPU's."""

    winner: str
    verdict: str
    candidates: tuple[Candidate, ...]
    race: Race | None
    threads: int
    metric: str = "top-1"
    insisted: bool = False
    alike: str = ""
    """What the float graph answers to all images alike, so that the share of equal answers proves nothing."""

    @property
    def chosen(self) -> str:
        """float, int8 or mixed."""
        return next(c.kind for c in self.candidates if c.name == self.winner)

    @property
    def over_budget(self) -> bool:
        """Whether int8 was insisted on and no integer graph holds the accuracy budget."""
        return self.insisted and self.rival is not None and bool(self.rival.refused)

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


def decide(entries: Mapping[str, Entry], trial: Trial, judge: Judge | None = None, track: Track = silent) -> Decision:
    """Race all `entries` (the first is the float graph) and choose within the budget.

    The `judge` that has seen some of them already need not look again. It looks before they race and is closed then: a
    race holds the sessions of all of them.
    """
    first, *others = entries
    judge = judge or Judge(open_session(entries[first].model), trial, track)  # on all processors: nothing is timed here
    said = {name: judge.of(entries[name].model) for name in others if not entries[name].only_speed}
    judge.close()
    sessions = {name: open_session(entry.model, threads=trial.threads) for name, entry in entries.items()}
    feed = trial.samples.feeds(trial.input_name, 1)[0]
    calls = {name: session.prepare(feed) for name, session in sessions.items()}

    def raced(rounds: int, seconds: float, seed: int) -> tuple[Race, list[Candidate]]:
        run = race(calls, rounds=rounds, seconds=seconds, seed=seed, threads=trial.threads, track=track)
        found = [
            Candidate(first, sessions[first].size_bytes, run.median_ms(first), accuracy=judge.value, unit=trial.unit)
        ]
        for name in others:
            size, p50 = sessions[name].size_bytes, run.median_ms(name)
            timed = Candidate(name, size, p50, run.ratio(name, first), kind=entries[name].kind)
            why = entries[name].only_speed
            found.append(replace(timed, refused=why) if why else judged(timed, said[name], trial))
        return run, found

    run, found = raced(trial.rounds, trial.seconds, trial.seed)
    if undecided(found, trial):
        run, found = raced(LONGER * trial.rounds, LONGER * trial.seconds, trial.seed + 1)
    if trial.threads > 1:
        found = on_one_thread(found, entries, feed, trial, track)
    return _decided(found, judge, entries[first].model, run)


def on_one_thread(
    candidates: list[Candidate], entries: Mapping[str, Entry], feed: Tensors, trial: Trial, track: Track
) -> list[Candidate]:
    """`candidates`, the one that won on several threads with its speed on one, in CPU time."""
    rival, base = best_of(candidates), candidates[0].name
    if rival is None or rival.refused or trial.insisted or rival.speedup is None or rival.speedup.verdict != "faster":
        return candidates
    calls = {name: open_session(entries[name].model, threads=1).prepare(feed) for name in (base, rival.name)}
    run = race(calls, rounds=trial.rounds, seconds=trial.seconds, seed=trial.seed, threads=1, track=track)
    return [replace(c, alone=run.ratio(c.name, base)) if c is rival else c for c in candidates]


def undecided(candidates: Sequence[Candidate], trial: Trial) -> bool:
    """Whether the integer graph that matters looks faster, and the race was too short on this machine to be sure."""
    rival = best_of(candidates)
    ratio = None if rival is None or rival.refused or trial.insisted else rival.speedup
    return ratio is not None and ratio.looks_faster


def foretell(entries: Mapping[str, Entry], judge: Judge, target: str) -> Decision:
    """Judge `entries` for a CPU that is not at hand: nothing can be raced, int8 is taken where it holds the budget.

    The `judge` opens integer graphs so that they answer as they would on the target.
    """
    names, trial = list(entries), judge.trial
    base = open_session(entries[names[0]].model)
    found = [Candidate(names[0], base.size_bytes, None, accuracy=judge.value, unit=trial.unit)]
    for name in names[1:]:
        entry = entries[name]
        unraced = Candidate(name, entry.model.ByteSize(), None, kind=entry.kind)
        found.append(judged(unraced, judge.of(entry.model), trial))
    return _decided(found, judge, entries[names[0]].model, None, target)


def _decided(
    found: list[Candidate], judge: Judge, float_model: onnx.ModelProto, run: Race | None, elsewhere: str = ""
) -> Decision:
    """What `choose` says of the candidates `found`; where there is but the `float_model`, why."""
    trial = judge.trial
    winner, verdict = choose(found, trial, elsewhere)
    verdict = verdict if len(found) > 1 else without_int8(float_model)
    return Decision(winner, verdict, tuple(found), run, trial.threads, trial.metric, bool(trial.insisted),
                    judge.alike or "")  # fmt: skip


def judged(raced: Candidate, found: Judgement, trial: Trial) -> Candidate:
    """`raced` with what it costs; refused when that is over the budget."""
    over = found.held > trial.max_drop
    refused = f"{raced.name} {found.words}" if over else ""
    return replace(
        raced, snr_db=found.snr_db, agreement=found.agreement, accuracy=found.accuracy, drop=found.drop,
        refused=refused, drop_high=found.drop_high, unit=trial.unit,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ choosing
def best_of(candidates: Sequence[Candidate]) -> Candidate | None:
    """The integer candidate to talk about: within the budget before outside it, judged before not, then the fastest.

    Of those that are as fast but for `DRAW`, the most exact. Outside the budget the one that loses least comes first;
    where nothing was raced, the last, which has the rewrites.
    """
    rivals = [(_merits(c), i, c) for i, c in enumerate(candidates) if c.kind != FLOAT]
    if not rivals:
        return None
    best = max(rivals, key=lambda rank: rank[:2])[2]
    if best.refused or best.drop is None or best.speedup is None:
        return best
    least = DRAW * best.speedup.ratio
    near = [c for _, _, c in rivals if not c.refused and c.drop is not None and c.speedup and c.speedup.ratio >= least]
    return max(near, key=lambda c: (c.snr_db if c.snr_db is not None else 0.0, c is best))


def _merits(c: Candidate) -> tuple[bool, bool, float, float]:
    lost = 0.0 if not c.refused or c.drop is None else c.drop
    return not c.refused, c.drop is not None, -lost, c.speedup.ratio if c.speedup else 0.0


def in_half(model: onnx.ModelProto) -> str:
    """That layers of the float `model` compute in float16 and stay as they are; empty where none does."""
    half, layers = layers_in_half(model)
    return f"{half} of {counted(layers, 'layer')} {HALF_CAUSE}" if half else ""


def without_int8(model: onnx.ModelProto) -> str:
    """The verdict where no integer graph of the float `model` could be made: with the cause, where that is float16."""
    return "; ".join(filter(None, (NO_LAYER, in_half(model))))


def choose(candidates: list[Candidate], trial: Trial, elsewhere: str = "") -> tuple[str, str]:
    """(name of the winner, sentence). The budget comes first, then speed, which --allow-slower and --all-int8 waive.

    `elsewhere`: the CPU that they are meant for, where it is not this one and nothing was raced.
    """
    base, rival = candidates[0], best_of(candidates)
    if rival is None:
        return base.name, NO_LAYER
    if rival.refused:
        return base.name, f"{rival.refused}: kept float; {_ways(trial)} may change that"
    ratio = rival.speedup
    if ratio is None:
        there = "race it there: `python NAME.edge settle` if --keep-float packed the float graph, else `edgecnn bench`"
        where = f"predicted, not measured (this CPU is {this_cpu()}); {there}"
        return rival.name, f"{rival.name} for {elsewhere}, {_cost(base, rival, trial)}: {where}"
    speed = ratio.speed("this CPU")
    if ratio.verdict == "faster" and rival.alone is not None and rival.alone.looks_slower:
        return base.name, f"{speed} {of_threads(trial.threads, rival.alone)}: kept float; --allow-slower forces int8"
    if ratio.verdict == "faster":
        return rival.name, f"{speed}, {_cost(base, rival, trial)}: chose {rival.name}"
    if trial.insisted:
        return rival.name, f"{speed}, {_cost(base, rival, trial)}: {rival.name} because {trial.insisted} asks for it"
    if ratio.verdict == "slower":
        return base.name, f"{speed}: kept float; --allow-slower forces int8"
    busy = "try again when the machine is less busy, or --allow-slower takes it"
    advice = busy if ratio.looks_faster else "--allow-slower forces int8"
    return base.name, f"{speed}, {ratio.doubt}: kept float; {advice}"


def of_threads(threads: int, alone: Ratio) -> str:
    """Why a win in wall time on `threads` threads is not believed: `alone` is the same in CPU time on one."""
    return f"in wall time on {threads} threads, {alone.ratio:.2f}x on one in CPU time, which neighbours do not bend"


def _ways(trial: Trial) -> str:
    """What might bring int8 within the budget."""
    told = "more labelled --data" if trial.sure else "labelled --data"
    data = [told] if (trial.sure or not trial.labelled) and not trial.unused else []
    learned = ["`edgecnn train --qat`"] if trial.labelled and trial.own is None else []
    more = ["a --search-budget above 0"] if trial.quick else []
    return f"{', '.join([*more, *data, 'another --calibrator', *learned])} or a larger --max-drop"


def _at_most(high: float | None, trial: Trial) -> str:
    """The upper end of the interval of what is lost; without one, no draw of images showed a difference."""
    if high is None:
        return f" (95 %: at most {percent(upper_bound(0, distinct(trial.samples)))} % of images count otherwise)"
    lost = lost_in_words(high, trial)
    return f" (95 %: at most {lost} less)" if high > 0 else " (95 %: no less)"


def lost_in_words(lost: float, trial: Trial) -> str:
    """What is lost of the metric of `trial`: `1.2 points`, `0.51 px`, or of a plain number `0.012`."""
    if trial.unit or trial.metric in PLAIN:
        return f"{lost:.3g} {trial.unit}".rstrip()
    return f"{100 * lost:.1f} points"


def _cost(base: Candidate, rival: Candidate, trial: Trial) -> str:
    if base.accuracy is not None and rival.accuracy is not None:
        both = (valued(value, trial.unit, metric=trial.metric) for value in (rival.accuracy, base.accuracy))
        return f"{trial.metric} {' against '.join(both)}{_at_most(rival.drop_high, trial)}"
    if rival.agreement is not None:
        least = "" if rival.drop_high is None else f" (95 %: at least {100 * (1 - rival.drop_high):.1f} %)"
        return AGREED.get(trial.task, "same answer on {} %").format(f"{100 * rival.agreement:.1f}") + least
    return f"SNR {rival.snr_db:.1f} dB"
