"""A network that answers with numbers learns them in standard deviations, and answers in the unit of the data.

    W x + b  learns  (y - mean) / s         the last layer holds  W' = s W,  b' = s b + mean,  and  W' x + b'  is y
    W  <- W - rate dL/dW                    is                    W' <- W' - rate s^2 dL/dW'      as dL/dW = s dL/dW'

So ages and metres are learned alike, at the usual rates, and nothing is left to be undone: gradients of the last layer
are multiplied by s^2 while they are made. Where one row of W answers many numbers, as a convolution answers a map, its
mean and s are the means of theirs. That layer is found by running the network once: the convolution or fully
connected layer whose numbers are the answer. Where there is none, the network learns at its own scale.
Source of standardized targets: LeCun et al. 1998, "Efficient BackProp", section 4.3.
Test: tests/test_task_regression.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from runtimes.base import Array

LAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def scale_last(module: nn.Module, picture: torch.Tensor, mean: Array, deviation: Array, fresh: bool) -> bool:
    """Let the last layer of `module` learn numbers of this `mean` and `deviation`; False where there is none.

    `fresh`: it has learned nothing yet, and starts at that mean and scale.
    """
    layer = last_layer(module, picture)
    if layer is None or not isinstance(layer.bias, nn.Parameter):
        return False
    rows = len(layer.bias)
    middle, scale = (torch.from_numpy(values.reshape(-1)) for values in (mean, deviation))
    if len(scale) != rows:  # a layer that is used at many places answers the numbers of a row with the same weights
        made = _outputs(module, layer, picture)[-1]
        middle, scale = (_of_rows(values, made, 1 - layer.weight.dim(), rows) for values in (middle, scale))
    wide = scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
    if fresh:
        with torch.no_grad():
            layer.weight.mul_(wide)
            layer.bias.mul_(scale).add_(middle)
    for parameter, factor in ((layer.weight, wide**2), (layer.bias, scale**2)):
        parameter.register_hook(_times(factor))
    return True


def last_layer(module: nn.Module, picture: torch.Tensor) -> Any:
    """The layer of `module` whose numbers its one answer to `picture` holds, only moved; None where there is none."""
    made: dict[int, nn.Module] = {}

    def remember(layer: nn.Module, args: Any, out: Any) -> None:
        made[out.data_ptr()] = layer

    layers = [layer for layer in module.modules() if isinstance(layer, LAST)]
    handles = [layer.register_forward_hook(remember) for layer in layers]
    try:
        with torch.no_grad():
            answer = module(picture)
    finally:
        for handle in handles:
            handle.remove()
    found = made.get(answer.data_ptr()) if isinstance(answer, torch.Tensor) else None
    return found if found is not None and _untouched(module, found, picture, answer) else None


def _of_rows(values: torch.Tensor, made: torch.Tensor, axis: int, rows: int) -> torch.Tensor:
    """Means (rows,) of `values`, one for each number of `made`, whose rows lie along `axis`; of all if they differ."""
    if len(values) != made.numel():
        return values.mean().expand(rows)
    return values.reshape(made.shape).movedim(axis, 0).reshape(rows, -1).mean(1)


def _untouched(module: nn.Module, layer: nn.Module, picture: torch.Tensor, answer: torch.Tensor) -> bool:
    """Whether the numbers of `layer` go into the answer as they are: memory is used again, by a ReLU in place too."""
    kept = _outputs(module, layer, picture)
    return bool(kept) and kept[-1].numel() == answer.numel() and torch.equal(kept[-1].flatten(), answer.flatten())


def _outputs(module: nn.Module, layer: nn.Module, picture: torch.Tensor) -> list[torch.Tensor]:
    """What `layer` makes, call by call, while `module` looks at `picture`."""
    kept: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _, args, out: kept.append(out.clone()))
    try:
        with torch.no_grad():
            module(picture)
    finally:
        handle.remove()
    return kept


def _times(factor: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda gradient: gradient * factor
