"""Probabilistic max pooling: of the c x c units of a block at most one is on, and the pool is on when one is.

    P(h_j = 1) = exp(I_j) / (1 + sum_i exp(I_i))          unit j of a block whose units have the inputs I
    P(p = 1)   = 1 - 1 / (1 + sum_i exp(I_i))             = sigmoid(log sum_i exp(I_i))

A softmax over the units and one more state, "none", of energy 0. It makes max pooling something that a generative
model can run backwards. Rows and columns that fill no whole block are left out, as in MaxPool2d.

Lee, Grosse, Ranganath, Ng 2009, Convolutional deep belief networks for scalable unsupervised learning of hierarchical
representations, section 3.3. Test: tests/test_layers.py.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.layers.unpooling import whole_blocks


def blocks(x: torch.Tensor, side: int) -> torch.Tensor:
    """(N, K, H, W) -> (N, K, H // side, W // side, side * side)."""
    x = whole_blocks(x, side)
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels, height // side, side, width // side, side).transpose(3, 4).flatten(4)


class ProbabilisticMaxPool2d(nn.Module):
    """Inputs (N, K, H, W) -> P(p = 1) (N, K, H // side, W // side)."""

    def __init__(self, side: int = 2) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.logsumexp(blocks(x, self.side), -1).sigmoid()

    def units(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs (N, K, H, W) -> P(h = 1) of every unit, block by block: (N, K, H // side, W // side, side * side)."""
        inputs = blocks(x, self.side)
        none = torch.zeros_like(inputs[..., :1])
        return torch.cat([inputs, none], -1).softmax(-1)[..., :-1]
