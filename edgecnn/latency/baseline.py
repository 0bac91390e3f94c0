"""Is a model slower than it was? An earlier `edgecnn bench --json` against today's race; the file is only read.

    change = speed of the model over the first model's, now  /  the same, then         two machines may differ
    change = p50 then / p50 now                                for one model alone, on the same machine only

    whole interval at 1 - tolerance or above: passed     below: missed     on both sides, or few rounds: inconclusive

The interval joins the worst of both measurements: low = now.low / then.high, high = now.high / then.low. The file holds
one document, or one a line: of those that raced all the models of a combination, the last counts. A model or a
combination that no document has is refused before anything is measured. Test: tests/test_baseline.py.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

from edgecnn.latency.gates import side, too_few
from runtimes.base import BadInput
from runtimes.files import check_input_file
from runtimes.machine import Machine
from runtimes.timing.bench_report import Combination, Heat, Outcome
from runtimes.timing.ratios import MIN_ROUNDS

TOLERANCE = 0.05
MOST_BYTES = 2**28
SAME_MACHINE = ("cpu", "isa", "cores", "threads", "memory_mb")
"""What must be equal before two absolute times are compared."""
Document = Mapping[str, Any]
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Baseline:
    """`documents` oldest first; `tolerance` 0.05 accepts what is at most 5 % slower than then."""

    path: str
    documents: tuple[Document, ...]
    tolerance: float

    def require(self, names: Sequence[str], combinations: Sequence[Combination]) -> None:
        """Raises `BadInput`, before anything is measured, for a model or a combination that the file does not have."""
        for combination in combinations:
            document = self._document(combination, names)
            first, *others = (known(document, combination, names)[name] for name in names)
            for other in others:
                old_ratio(document, combination, other, first)

    def judge(self, heats: Sequence[Heat], machine: Machine) -> tuple[Outcome, ...]:
        """One outcome a heat and model (behind the first); raises what `require` raises."""
        return tuple(outcome for heat in heats for outcome in self._heat(heat, machine))

    def unmeasured(self, heats: Sequence[Heat]) -> tuple[str, ...]:
        """Rows of the documents compared with that no heat measured again, as `int8.onnx on cpu, 1 thread, batch 1`."""
        documents = [self._document(heat.combination, heat.race.names) for heat in heats]
        compared = {
            (theirs, heat.combination)
            for heat, document in zip(heats, documents, strict=True)
            for theirs in known(document, heat.combination, heat.race.names).values()
        }
        there = [(str(row["model"]), of_row(row)) for document in documents for row in document["models"]]
        return tuple(dict.fromkeys(f"{model} on {where}" for model, where in there if (model, where) not in compared))

    def _document(self, combination: Combination, names: Sequence[str]) -> Document:
        """The last document that raced all of `names`."""
        newest = list(reversed(self.documents))
        for document in newest:
            if len(known(document, combination, names)) == len(names):
                return document
        there = [[str(row["model"]) for row in rows(document, combination)] for document in newest]
        nearest = max(newest, key=lambda document: len(known(document, combination, names)))
        missing = ", ".join(name for name in names if name not in known(nearest, combination, names))
        if any(there):
            has = ", ".join(dict.fromkeys(itertools.chain(*there)))
            races = "no one race of it has all of these" if len(self.documents) > 1 else f"it has {has}"
            raise BadInput(
                f"{self.path}: does not know {missing} on {combination}; {races}; measure the baseline anew with it"
            )
        has = "; ".join(dict.fromkeys(str(of_row(row)) for document in newest for row in document["models"]))
        raise BadInput(f"{self.path}: has nothing on {combination}, but on {has}; measure the baseline anew")

    def _heat(self, heat: Heat, machine: Machine) -> Iterator[Outcome]:
        document = self._document(heat.combination, heat.race.names)
        names = known(document, heat.combination, heat.race.names)
        first, *others = heat.race.names
        for name in others:
            yield self._relative(document, heat, name, first, names)
        if not others:
            yield self._absolute(document, heat, first, names[first], machine)

    def _relative(self, document: Document, heat: Heat, name: str, first: str, names: Mapping[str, str]) -> Outcome:
        now, then = heat.race.ratio(name, first), old_ratio(document, heat.combination, names[name], names[first])
        question = f"{name} over {first}, no slower than in {self.path}"
        old = [row for row in rows(document, heat.combination) if row["model"] in (names[name], names[first])]
        return self._outcome(question, heat, (now.ratio, now.low, now.high), then, old)

    def _absolute(self, document: Document, heat: Heat, name: str, old: str, machine: Machine) -> Outcome:
        question = f"p50 of {name}, no slower than in {self.path}"
        here = machine.to_dict()
        other = [key for key in SAME_MACHINE if document.get("machine", {}).get(key) != here[key]]
        if other:
            why = f"measured on another machine ({', '.join(other)}), and one model has no ratio"
            return Outcome(question, heat.name, "inconclusive", "x", 1 - self.tolerance, why=why)
        row = next(row for row in rows(document, heat.combination) if row["model"] == old)
        low, high = heat.race.reports[name].p50_interval_ms
        now = (1 / heat.race.reports[name].p50_ms, 1 / high, 1 / low)
        then = (1 / row["p50_ms"], 1 / row.get("p50_high_ms", row["p50_ms"]), 1 / row.get("p50_low_ms", row["p50_ms"]))
        return self._outcome(question, heat, now, then, [row])

    def _outcome(
        self, question: str, heat: Heat, now: Interval, then: Interval, old: Sequence[Mapping[str, Any]]
    ) -> Outcome:
        """`old`: the rows of the document that `then` was made of; one that does not say its samples had enough."""
        value, low, high = now[0] / then[0], now[1] / then[2], now[2] / then[1]
        least, before = 1 - self.tolerance, min(row.get("samples", MIN_ROUNDS) for row in old)
        why = too_few(heat.race.rounds) or too_few(before, "the baseline has ")
        state = "inconclusive" if why else side(least, low, high)
        return Outcome(question, heat.name, state, "x", least, value, low, high, why)


def read(path: Path, tolerance: float = TOLERANCE) -> Baseline:
    """The documents in `path`; raises `BadInput` for a file that `edgecnn bench --json` did not write."""
    text = check_input_file(path, MOST_BYTES).read_bytes().decode("utf-8", "replace")
    try:
        documents = [json.loads(text)]
    except (ValueError, RecursionError):
        documents = [_line(path, i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    for document in documents:
        _check(path, document)
    return Baseline(str(path), tuple(documents), tolerance)


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: line {number} is no JSON; give what `edgecnn bench --json` printed") from error


def _check(path: Path, document: Any) -> None:
    try:
        dict(document.get("machine", {}))
        for row in document["models"]:
            hash((str(row["model"]), row["provider"], row["batch"], row["threads"]))
            _require_sizes(row["p50_ms"], row.get("p50_low_ms", 1), row.get("p50_high_ms", 1), row.get("samples", 1))
        for ratio in document["ratios"]:
            hash((ratio["a"], ratio["b"]))
            _require_sizes(ratio["ratio"], ratio["low"], ratio["high"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise BadInput(f"{path}: is no result of `edgecnn bench --json`; measure the baseline again") from error


def _require_sizes(*numbers: Any) -> None:
    """Raise what `_check` explains for anything but finite numbers above 0."""
    if not all(0 < number < math.inf and 1 / number < math.inf for number in numbers):
        raise ValueError(numbers)


def of_row(row: Mapping[str, Any]) -> Combination:
    return Combination(row["provider"], row["threads"], row["batch"])


def rows(document: Document, combination: Combination) -> list[Mapping[str, Any]]:
    """The models of `document` in the `combination`."""
    return [row for row in document["models"] if of_row(row) == combination]


def known(document: Document, combination: Combination, names: Sequence[str]) -> dict[str, str]:
    """Our name -> its name in `document`, for those of `names` that it measured: by path, else by stem."""
    theirs = [row["model"] for row in rows(document, combination)]
    stems = [PurePath(name).stem for name in theirs]
    found = {}
    for name in names:
        stem = PurePath(name).stem
        if name in theirs:
            found[name] = name
        elif stems.count(stem) == 1:
            found[name] = theirs[stems.index(stem)]
    return found


def old_ratio(document: Document, combination: Combination, a: str, b: str) -> Interval:
    """(ratio, low, high) of a over b in `document`, which wrote every pair down once, in one of two orders."""
    key = asdict(combination)
    for row in document["ratios"]:
        if all(row.get(name, value) == value for name, value in key.items()):
            if (row["a"], row["b"]) == (a, b):
                return row["ratio"], row["low"], row["high"]
            if (row["a"], row["b"]) == (b, a):
                return 1 / row["ratio"], 1 / row["high"], 1 / row["low"]
    raise BadInput(f"baseline: has {a} and {b}, but no ratio of them; measure both in one race")
