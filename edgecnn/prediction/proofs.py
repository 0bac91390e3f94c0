"""Several bundles proven one after the other: each says what it is, and none stops the next.

    a.edge  proven           b.edge  NOT proven (1)           c.edge  is no bundle (2)           -> exit 2, the highest

Test: tests/test_proofs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runtimes.base import BadInput, EdgeError, counted
from runtimes.device.process import explain
from runtimes.proof.verification import VerifyReport


@dataclass(frozen=True)
class Proof:
    """What `verify` says of one `bundle`: its report, or the error that it raised."""

    bundle: str
    report: VerifyReport | None
    error: EdgeError | None = None

    @property
    def failure(self) -> EdgeError | None:
        return self.error if self.report is None else self.report.failure

    @property
    def verdict(self) -> str:
        return f"{self.bundle}: NOT proven, see its error" if self.report is None else self.report.verdict

    def to_dict(self) -> dict[str, Any]:
        """The document of this bundle alone, with what the command would have ended with."""
        nothing = {"bundle": self.bundle, "passed": False, "hashes": None, "golden": []}
        raised = nothing | dict(getattr(self.error, "document", {}))
        failure = self.failure
        ended = {"error": failure and str(failure), "exit_code": failure.exit_code if failure else 0}
        return {**(raised if self.report is None else self.report.to_dict()), **ended}


@dataclass(frozen=True)
class ProofsReport:
    """What `verify` says of several bundles, in the order in which they were given."""

    proofs: tuple[Proof, ...]

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def failures(self) -> tuple[EdgeError, ...]:
        """One for each bundle that is not proven, the worst last."""
        found = [proof.failure for proof in self.proofs if proof.failure is not None]
        return tuple(sorted(found, key=lambda error: error.exit_code))

    @property
    def failure(self) -> EdgeError | None:
        """What the command line exits with: None when all are proven."""
        return self.failures[-1] if self.failures else None

    @property
    def verdict(self) -> str:
        lost = [proof.bundle for proof in self.proofs if proof.failure is not None]
        proven = f"{len(self.proofs) - len(lost)} of {counted(len(self.proofs), 'bundle')} proven"
        return f"{proven}; NOT proven: {', '.join(lost)}." if lost else f"{proven}."

    def to_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, "bundles": [proof.to_dict() for proof in self.proofs]}


def proofs_of(bundles: Sequence[str], verify: Callable[[str], VerifyReport]) -> ProofsReport:
    """What `verify` says of each of `bundles`; raises `BadInput` where there are none."""
    if not bundles:
        raise BadInput("no bundle: name one or several")
    return ProofsReport(tuple(_proof(bundle, verify) for bundle in bundles))


def _proof(bundle: str, verify: Callable[[str], VerifyReport]) -> Proof:
    try:
        return Proof(bundle, verify(bundle))
    except EdgeError as error:
        return Proof(bundle, None, error)
    except (OSError, MemoryError) as error:
        return Proof(bundle, None, BadInput(explain(error)[1]))
