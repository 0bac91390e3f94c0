"""The operation that a PyTorch network's answer comes out of, in the words of ONNX (exporters/ending.py).

    sigmoid -> squeeze -> answer      ->      Sigmoid

Every operation is seen when the network runs once: who made the memory that the answer stands in.
Test: tests/test_ending.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

NAMES = {
    "sigmoid": "Sigmoid",
    "hardsigmoid": "Sigmoid",
    "relu": "Relu",
    "clamp": "Clip",
    "clamp_min": "Clip",
    "hardtanh": "Clip",
    "tanh": "Tanh",
    "_softmax": "Softmax",
    "_log_softmax": "LogSoftmax",
}
MOVES = frozenset(
    {
        "view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "permute", "transpose", "t", "expand", "slice",
        "select", "detach", "alias", "clone", "_to_copy", "contiguous", "upsample_nearest2d", "upsample_bilinear2d",
    }
)  # fmt: skip


class Makers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`made`: the operation behind the numbers at an address. An address that is given again has a new operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: dict[int, str] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func.overloadpacket.__name__)
        name = name[:-1] if name.endswith("_") else name
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        for value in pytree.tree_leaves(out):
            if isinstance(value, torch.Tensor):
                moved = name in MOVES and first is not None
                self.made[value.data_ptr()] = (
                    self.made.get(first.data_ptr(), "") if moved and first is not None else name
                )
        return out


def ending_of(module: Callable[[Any], Any], picture: Any) -> str:
    """What makes the one answer of `module` to `picture`; empty for another answer, and where it cannot be seen."""
    with contextlib.suppress(Exception), torch.no_grad(), Makers() as makers:
        answer = module(picture)
        if isinstance(answer, torch.Tensor):
            return NAMES.get(makers.made.get(answer.data_ptr(), ""), "")
    return ""
