"""ONNX Runtime's CPU provider: built into every wheel, always there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ORT_NAME = "CPUExecutionProvider"


@dataclass(frozen=True)
class Options:
    """Nothing can be chosen."""


def require() -> None:
    """Nothing can be missing."""


def options(chosen: Options) -> dict[str, str]:
    return {}


def configure(session_options: Any) -> None:
    """The defaults of ONNX Runtime are measured to be the fastest here (arena, memory pattern, prepacking)."""
