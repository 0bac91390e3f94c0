"""A network whose sigmoids are as right as a runtime's are: to half of float32's unit at 1, whatever the answer is.

    sigmoid(x)   =   1/2 + tanh(x / 2) / 2          one rational function for all x:   error  ~  2^-24
                 =   1 / (1 + exp(-x))              PyTorch's:                         error  ~  2^-24 sigmoid(x)

A detector that finds nothing answers with scores of 1e-5 and less. PyTorch gives seven digits of them, ONNX Runtime,
which computes the first form, three: 64 dB between the two for YOLOv8 on an empty picture, and both are right.
What a network is held to must allow for that. Source: Eigen's and MLAS' `logistic`.
Test: tests/test_coarse_sigmoids.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from runtimes.base import Runner, Tensors

ERROR = 2.0**-24
SIGMOIDS = (torch.ops.aten.sigmoid.default, torch.ops.aten.sigmoid_.default)


def with_coarse_sigmoids(run: Runner, seed: int = 0) -> Runner:
    """`run`, which calls a PyTorch module, with up to `ERROR` added to what its sigmoids make, as `seed` says."""

    def coarse(feeds: Tensors) -> Tensors:
        with _Coarse(torch.Generator().manual_seed(seed)):
            return run(feeds)

    return coarse


class _Coarse(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, draw: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.draw = draw

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in SIGMOIDS:
            made += (2 * torch.rand(made.shape, generator=self.draw) - 1) * ERROR
        return made
