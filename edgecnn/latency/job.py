"""What is raced: a model, and how it is loaded and fed. Test: tests/test_racers.py."""

from __future__ import annotations

from dataclasses import dataclass

TORCH_KINDS = ("torch", "compile")


@dataclass(frozen=True)
class Job:
    """What to load and how to run it. `kind` is "onnx" or one of `TORCH_KINDS`; `input_shape` one text an input."""

    model: str
    provider: str
    threads: int
    batch: int
    seed: int
    input_shape: tuple[str, ...] = ()
    kind: str = "onnx"
    weights: str | None = None
