"""Give an untrained detector something to say: spread the answers of its last layers as a trained network's are.

    w_c <- w_c * spread / std_c        b_c <- (b_c - mean_c) * spread / std_c        for each output c of the layer

Fresh weights give every box nearly the same score. What is picked out of thousands of nearly equal scores depends on
the last bit of each: no two runtimes would find the same boxes, nor would it be a test of int8. Only for networks that
nobody has trained, on the same pictures that give their BatchNorms live statistics (`sources.settle`).
Test: tests/test_detection_heads.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import nn

Heads = Sequence[Sequence[tuple[nn.Module, float]]]
"""Steps, each a set of (last layer, wanted standard deviation); a later step sees what an earlier one lets through."""

SCORE_SPREAD, CODE_SPREAD = 2.0, 0.5
LEAST_STD = 0.1
"""Share of a layer's largest output below which the output of a class counts as constant: no noise is blown up."""
FEW = 8
"""With fewer answers to each output than this (one an image) the layer is spread as a whole."""


@runtime_checkable
class HasHeads(Protocol):
    def heads(self) -> Heads: ...


def liven(module: nn.Module, pictures: torch.Tensor) -> None:
    """Spread the answers of the `heads()` of a detector, in place; nothing where it has none."""
    if not isinstance(module, HasHeads):
        return
    seen: dict[nn.Module, torch.Tensor] = {}

    def see(layer: nn.Module, _given: object, made: torch.Tensor) -> None:
        seen[layer] = made

    for step in module.heads():
        hooks = [layer.register_forward_hook(see) for layer, _ in step]
        with torch.no_grad():
            module(pictures)
            for hook in hooks:
                hook.remove()
            for layer, spread in step:
                _spread(layer, seen[layer], spread)


def _spread(layer: nn.Module, made: torch.Tensor, spread: float) -> None:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    assert layer.bias is not None
    values = made.transpose(0, 1).flatten(1) if isinstance(layer, nn.Conv2d) else made.T
    if values.shape[1] < FEW:
        values = values.reshape(1, -1)
    mean, std = values.mean(1), values.std(1, correction=0)
    gain = spread / std.clamp(min=max(LEAST_STD * float(values.abs().max()), 1e-12))
    layer.weight.mul_(gain.reshape(-1, *[1] * (layer.weight.dim() - 1)))
    layer.bias.copy_((layer.bias - mean) * gain)
