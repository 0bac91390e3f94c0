"""What a check says: what was compared, on what, against which limits, and the verdict.

Test: tests/test_compare.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtimes.base import MESSAGE_LIMIT, CheckFailed, counted
from runtimes.execution.residence import Residence
from runtimes.parity import JSON_SNR_LIMIT, ParityReport, json_number


@dataclass(frozen=True)
class CheckReport:
    """What was compared, on what, against which limits (by output name), and what does not hold.

    `why` says where limits come from that were not given (empty: all were), `same` the least share of equal integers,
    `sizes` the shapes of the first input that were tried. `seeded` names the PyTorch networks without weights.
    """

    reference: str
    candidate: str
    data: str
    snr_db: dict[str, float]
    top1: float | None
    max_abs: dict[str, float]
    same: dict[str, float]
    why: str
    parity: ParityReport
    failures: tuple[str, ...]
    sizes: tuple[tuple[int, ...], ...] = ()
    seeded: tuple[str, ...] = ()
    next_command: str = ""
    provider: str = "cpu"
    precision: str | None = None
    """The arithmetic that set the default limit; None on the CPU, and for limits that were given."""
    residence: Residence | None = None
    """Where the candidate's nodes ran, with `require_all`."""
    warnings: tuple[str, ...] = ()
    """What was assumed of the sides' inputs."""
    unreadable: tuple[str, ...] = ()
    """Pictures of the data that were left out."""
    classes: bool = True
    """Whether columns of an output may be scores of classes: no model says that its task is another."""

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def failure(self) -> CheckFailed | None:
        """What the command line exits with: None when every limit holds."""
        if self.passed:
            return None
        more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
        said, command = f"{self.candidate}: {self.failures[0]}{more}; find the layer with", self.next_command
        fits = len(said) + len(command) + 3 <= MESSAGE_LIMIT
        return CheckFailed(f"{said} `{command if fits else 'edgecnn diff'}`")

    @property
    def verdict(self) -> str:
        limits = [_limit("SNR", ">=", self.snr_db, " dB", "{:.1f}"), _limit("equal", ">=", self.same, "", "{:.4f}")]
        limits += [f"top-1 >= {self.top1:g}"] if self.top1 is not None else []
        limits += [f"|difference| of {name} <= {value:g}" for name, value in self.max_abs.items()]
        why = f" ({self.why})" if self.why else ""
        where = "" if self.provider == "cpu" else f" on {self.provider}"
        word = "agrees with" if self.passed else "does NOT agree with"
        on = f"{counted(self.parity.images, 'image')} of {self.data}"
        return f"{self.candidate}{where} {word} {self.reference}: {', '.join(filter(None, limits))}{why}, {on}."

    def to_dict(self) -> dict[str, Any]:
        limits = {
            "snr_db": {name: json_number(value, JSON_SNR_LIMIT) for name, value in self.snr_db.items()} or None,
            "top1": self.top1,
            "max_abs": self.max_abs or None,
            "same": self.same or None,
            "default": bool(self.why),
            "why": self.why,
        }
        return {
            "passed": self.passed,
            "reference": self.reference,
            "candidate": self.candidate,
            "seeded_weights": bool(self.seeded),
            "data": self.data,
            "sizes": [list(shape) for shape in self.sizes],
            "limits": limits,
            "provider": self.provider,
            "precision": self.precision,
            "residence": self.residence.to_dict() if self.residence else None,
            **self.parity.to_dict(),
            "failures": list(self.failures),
            "next": None if self.passed else self.next_command,
            "warnings": list(self.warnings),
            "unreadable": list(self.unreadable),
        }


def _limit(what: str, sign: str, values: dict[str, float], unit: str, form: str) -> str:
    """One number where all outputs have the same, else the range of them.

    >>> _limit("SNR", ">=", {"a": 90.0, "b": 90.0}, " dB", "{:.1f}")
    'SNR >= 90.0 dB'
    """
    low, high = (form.format(end(values.values(), default=0)) for end in (min, max))
    return f"{what} {sign} {low if low == high else f'{low} to {high}'}{unit}" if values else ""
