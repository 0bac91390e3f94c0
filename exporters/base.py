"""What every pass returns: a new model, what it changed, and what it kept with the reason."""

from __future__ import annotations

from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class Change:
    """One edit. `bound` is the largest difference it can make to the node's output, relative to that output's scale."""

    node: str
    what: str
    bound: float = 0.0


@dataclass(frozen=True)
class Kept:
    """Something a pass could have changed and did not, and why."""

    node: str
    reason: str


@dataclass(frozen=True)
class PassResult:
    """The outcome of a pass: `model` is always a new object, the argument is never edited."""

    model: onnx.ModelProto
    changes: tuple[Change, ...] = ()
    kept: tuple[Kept, ...] = ()

    @property
    def modified(self) -> bool:
        return bool(self.changes)
