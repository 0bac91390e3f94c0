"""What a diff says: the first layer at which two models part, the layers that were looked at, and the verdict.

Test: tests/test_divergence.py, tests/test_diff.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgecnn.checking.comparison import Row
from edgecnn.checking.kernels import Kernels
from runtimes.base import CheckFailed, EdgeError, Inconclusive, counted
from runtimes.parity import JSON_SNR_LIMIT, json_number


@dataclass(frozen=True)
class Divergence:
    """The first layer that differs: SNR (dB) of its result, and of the layer alone on the reference's inputs.

    `at_fault` says whether the layer alone is beyond the limit; `cause` why it does not run, where it does not.
    `nodes` compute between it and the nearest tensors in common, from the node `begins` on: more than one are a region
    in which nothing tells where the fault is.
    """

    node: str
    op: str
    module: str
    snr_db: float
    alone_db: float
    limit_db: float
    at_fault: bool
    cause: str = ""
    point: int = -1
    nodes: int = 1
    begins: str = ""

    @property
    def proof(self) -> str:
        """What running it alone has shown to be at fault, as a sentence; empty where that showed nothing."""
        if not self.at_fault or self.cause:
            return ""
        so, gives = ("it does so too", "it gives") if self.nodes == 1 else ("they do so too", "they give")
        seen = so if self.alone_db == -math.inf else f"{gives} {db(self.alone_db)}"
        where = f"the fault is somewhere in these {self.nodes} nodes, {self.begins} to {self.node}"
        return f" Alone, on the reference's inputs, {seen}: {'the layer is at fault' if self.nodes == 1 else where}."

    def to_dict(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("snr_db", "alone_db", "limit_db")}
        limited = {name: json_number(value, JSON_SNR_LIMIT) for name, value in numbers.items()}
        return {name: value for name, value in {**vars(self), **limited}.items() if name != "point"}


@dataclass(frozen=True)
class DiffReport:
    """What was compared and where it parts. `layers` is empty unless every layer was looked at; `notes` say why.

    `kernels`: what an int8 candidate gives as it really runs (None: not looked at), `least_db` what it must give.
    `doubt`: why no layer is blamed though the models part; then the result is inconclusive.
    """

    reference: str
    candidate: str
    data: str
    samples: int
    points: int
    nodes: int
    partial_runs: int
    first: Divergence | None
    layers: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    reproducer: str | None = None
    plot: str | None = None
    output_db: float = 0.0
    limit_db: float = 0.0
    kernels: Kernels | None = None
    least_db: float = -math.inf
    doubt: str = ""
    warnings: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Pictures of the data that were left out."""

    @property
    def failure(self) -> EdgeError | None:
        """What the command line exits with: None when the models do not part, and the kernels hold the limit, too."""
        if self.first is not None:
            return CheckFailed(f"{self.candidate}: {self.sentence}")
        if self.doubt:
            return Inconclusive(f"{self.candidate}: {self.doubt}")
        ran = self.kernels
        if ran is not None and ran.lose and ran.runs_db < self.least_db:
            return CheckFailed(
                f"{self.candidate}: {db(ran.runs_db)} as it runs, the limit is {db(self.least_db)}: {ran.cause}"
            )
        return None

    @property
    def sentence(self) -> str:
        if self.first is None:
            return f"inconclusive: {self.doubt}" if self.doubt else f"no layer parts from {self.reference}"
        f = self.first
        node = f"{f.op} node {f.node}{f' (module {f.module})' if f.module else ''}"
        if f.cause:
            return f"{node} is the first that does not run: {f.cause}"
        first = f"{node} is the first that differs" if f.nodes == 1 else f"{f.nodes} nodes up to {node} differ first"
        if f.snr_db == -math.inf:
            return f"{first}: {'it makes' if f.nodes == 1 else 'they make'} another shape, NaN or Inf"
        right = "it is right" if f.nodes == 1 else "they are right"
        alone = "" if f.at_fault else f"; alone, on the reference's inputs, {right}"
        return f"{first}, {db(f.snr_db)} against {db(f.limit_db)}{alone}"

    @property
    def verdict(self) -> str:
        seen = f"{counted(self.samples, 'sample')} of {self.data}"
        on = f"{seen}, {counted(self.points, 'common tensor')}, {counted(self.partial_runs, 'partial run')}"
        if self.first is None:
            ran = f" But {self.kernels.words}." if self.kernels is not None and self.kernels.lose else ""
            ends = "" if self.doubt and self.output_db == -math.inf else f": {db(self.output_db)} at the outputs"
            return f"{self.candidate}: {self.sentence}{ends}; {on}.{ran}"
        return f"{self.candidate}: {self.sentence}; {on}.{self.first.proof}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "first": None if self.first is None else self.first.to_dict(),
            "layers": [row.to_dict() for row in self.layers],
            "reproducer": self.reproducer,
            "reference": self.reference,
            "candidate": self.candidate,
            "data": self.data,
            "samples": self.samples,
            "points": self.points,
            "nodes": self.nodes,
            "partial_runs": self.partial_runs,
            "output_db": json_number(self.output_db, JSON_SNR_LIMIT),
            "limit_db": json_number(self.limit_db, JSON_SNR_LIMIT),
            "kernels": None if self.kernels is None else self.kernels.to_dict(),
            "inconclusive": self.doubt or None,
            "notes": list(self.notes),
            "plot": self.plot,
            "warnings": list(self.warnings),
            "unreadable": list(self.unreadable),
        }


def db(value: float) -> str:
    """SNR in words.

    >>> db(float("-inf")), db(31.04)
    ('another shape or not comparable', '31.0 dB')
    """
    if value in (float("inf"), float("-inf")):
        return "equal" if value > 0 else "another shape or not comparable"
    return f"{value:.1f} dB"
