"""What `edgecnn bench` found: every sample of every model in every combination, and what is derived from them.

    BenchReport ── Heat: one provider, batch, threads; one race ── ModelBench: one model in it
                └─ Outcome: one gate, or one comparison with a baseline, in one heat

Test: tests/test_benchmark.py.
"""

from __future__ import annotations

import csv
import io
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from runtimes.base import CheckFailed, EdgeError, Inconclusive, counted
from runtimes.census import Kernel, convolves_in_half, dequantized, kernels_dict
from runtimes.execution.fresh import Probe
from runtimes.execution.provider_options import parse
from runtimes.latency import LatencyReport, Race, Ratio
from runtimes.machine import Machine
from runtimes.timing.noise import Noise
from runtimes.timing.ratios import SAME_WITHIN
from runtimes.words import number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

State = Literal["passed", "missed", "inconclusive"]


@dataclass(frozen=True)
class ModelBench:
    """One model's numbers. `probe` comes from fresh processes, `latency` from the race, `kernels` from the census;
    `fed` are the sizes of its inputs.
    """

    model: str
    provider: str
    batch: int
    threads: int
    probe: Probe
    latency: LatencyReport
    kernels: tuple[Kernel, ...]
    fed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def images_per_s(self) -> float:
        return self.latency.images_per_s(self.batch)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Where it ran in another arithmetic than its file or its provider makes one think."""
        found = []
        if dequantized(self.kernels):
            found.append(f"its int8 ran dequantized, in float; {self.provider} has no integer convolution")
        fast = parse(self.provider).for_half.text
        if convolves_in_half(self.kernels) and fast != self.provider:
            found.append(f"its float16 convolutions ran without tensor cores; ask for --provider {fast}")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.latency.p50_interval_ms
        return {
            "model": self.model,
            "provider": self.provider,
            "batch": self.batch,
            "threads": self.threads,
            **self.latency.to_dict(self.batch),
            "p50_low_ms": low,
            "p50_high_ms": high,
            **asdict(self.probe),
            "inputs": {name: list(sizes) for name, sizes in self.fed.items()},
            "kernels": kernels_dict(self.kernels),
            "providers_used": sorted({kernel.provider for kernel in self.kernels}),
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True)
class Combination:
    """Where and how a race ran.

    >>> print(Combination("cpu", 2, 4))
    cpu, 2 threads, batch 4
    """

    provider: str
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.provider}, {counted(self.threads, 'thread')}, batch {self.batch}"


@dataclass(frozen=True)
class Heat:
    """One combination: `models` in the order given, raced together; `noise` is what disturbed that race."""

    models: tuple[ModelBench, ...]
    race: Race
    noise: Noise

    @property
    def combination(self) -> Combination:
        first = self.models[0]
        return Combination(first.provider, first.threads, first.batch)

    @property
    def key(self) -> dict[str, Any]:
        return asdict(self.combination)

    @property
    def name(self) -> str:
        return str(self.combination)

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Every pair once, in the order given."""
        return self.race.ratios()

    @property
    def winning(self) -> tuple[Ratio, ...]:
        """The fastest model (by median) against each of the others."""
        fastest = min(self.race.names, key=lambda name: statistics.median(self.race.times_ms(name)))
        return tuple(self.race.ratio(fastest, name) for name in self.race.names if name != fastest)

    @property
    def clocks(self) -> str:
        """On which clock what is; the medians on the other clock, whose quotients the ratios are nearly, where it is
        not that of the table. Empty for a model alone, which has no ratio.
        """
        if len(self.models) < 2:
            return ""
        if self.race.clock == "wall":
            return "times and ratios: wall time"
        medians = ", ".join(f"{name} {number(self.race.median_ms(name))} ms" for name in self.race.names)
        return f"times in the table: wall time; ratios: CPU time, whose medians are {medians}"

    @property
    def itself(self) -> tuple[Ratio, ...]:
        """A/A of each model: half of its rounds against the other half."""
        return tuple(self.race.itself(name) for name in self.race.names) if self.race.rounds > 1 else ()

    @property
    def verdict(self) -> str:
        if len(self.models) > 1:
            return f"{'; '.join(map(str, self.winning))}; {counted(self.race.rounds, 'round')}, {self.race.clock} time."
        only = self.models[0]
        where = self.name if only.batch > 1 else self.name.rpartition(",")[0]
        return (
            f"{only.model}: {number(only.latency.p50_ms)} ms on {where}, median of {counted(self.race.rounds, 'run')}."
        )

    @property
    def winner(self) -> str | None:
        """The model that is faster than each of the others; None without one."""
        found = self.winning
        return found[0].a if all(ratio.verdict == "faster" for ratio in found) else None

    def noise_dict(self) -> dict[str, Any]:
        own = [{"model": r.a, "ratio": r.ratio, "low": r.low, "high": r.high} for r in self.itself]
        about = {"clock": self.race.clock, "rounds": self.race.rounds}
        return {**self.key, **about, **self.noise.to_dict(), "causes": list(self.noise.causes), "itself": own}


@dataclass(frozen=True)
class Outcome:
    """One question to one heat. `value` and its 95 % interval are in `unit` ("x" or "ms"); None where nothing was
    measured, and `why` says so. `limit` is what was asked for.
    """

    question: str
    heat: str
    state: State
    unit: str
    limit: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""

    def __str__(self) -> str:
        seen = self.why or f"{number(self.value)} {self.unit} (95 %: {number(self.low)} to {number(self.high)})"
        return f"{self.question}: {self.state}, {seen.replace(' x ', 'x ')} on {self.heat}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class BenchReport:
    """`heats` in the order provider, batch, threads; `gates` and `baseline` hold one outcome a question and heat, and
    `unmeasured` what the baseline has and no heat measured again.
    """

    machine: Machine
    heats: tuple[Heat, ...]
    seed: int
    gates: tuple[Outcome, ...] = ()
    baseline: tuple[Outcome, ...] = ()
    unmeasured: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What was assumed of sizes and inputs."""

    @property
    def models(self) -> tuple[ModelBench, ...]:
        return tuple(model for heat in self.heats for model in heat.models)

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        return tuple(ratio for heat in self.heats for ratio in heat.ratios)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return (*self.gates, *self.baseline)

    @property
    def verdict(self) -> str:
        """One heat's own; of several, who was the fastest how often, or where one model got the most images through."""
        if len(self.heats) == 1:
            return self.heats[0].verdict
        if len(self.heats[0].models) == 1:
            best = max(self.heats, key=lambda heat: heat.models[0].images_per_s)
            most = best.models[0].images_per_s
            return f"{best.models[0].model}: most images in a second, {number(most)}, on {best.name}."
        won = [heat.winner for heat in self.heats if heat.winner]
        words = [f"{name} in {won.count(name)}" for name in self.heats[0].race.names if name in won]
        return f"{len(self.heats)} races, fastest beyond doubt: {', '.join(words) or 'no model in any'}."

    @property
    def failure(self) -> EdgeError | None:
        """What the command line exits with: the first gate that was missed, else the first that cannot be told."""
        for state, kind in (("missed", CheckFailed), ("inconclusive", Inconclusive)):
            found = [outcome for outcome in self.outcomes if outcome.state == state]
            if found:
                more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
                advice = "" if state == "missed" else "; raise --iterations, or use a quieter machine"
                return kind(f"gate {found[0]}{more}{advice}")
        return None

    def to_dict(self) -> dict[str, Any]:
        return {
            "machine": self.machine.to_dict(),
            "models": [
                {**m.to_dict(), "clock": "wall", "p50_cpu_ms": statistics.median(m.latency.cpu_ms)} for m in self.models
            ],
            "ratios": [
                {**ratio.to_dict(), **heat.key, "clock": heat.race.clock}
                for heat in self.heats
                for ratio in heat.ratios
            ],
            "noise": [heat.noise_dict() for heat in self.heats],
            "gates": [outcome.to_dict() for outcome in self.gates],
            "baseline": [outcome.to_dict() for outcome in self.baseline],
            "baseline_not_measured": list(self.unmeasured),
            "same_within": SAME_WITHIN,
            "seed": self.seed,
            "warnings": list(self.warnings),
        }

    def to_csv(self) -> str:
        """One line a sample, in the order taken within a model."""
        stream = io.StringIO()
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(("model", "provider", "batch", "threads", "round", "wall_ms", "cpu_ms"))
        rows.writerows(self._samples())
        return stream.getvalue()

    def _samples(self) -> Iterator[tuple[object, ...]]:
        for m in self.models:
            times = zip(m.latency.samples_ms, m.latency.cpu_ms, strict=True)
            yield from ((m.model, m.provider, m.batch, m.threads, i, *pair) for i, pair in enumerate(times))
