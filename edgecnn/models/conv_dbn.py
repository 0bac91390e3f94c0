"""Convolutional deep belief network: what a unit believes about the picture, fed forward.

    I = b + (flipped W) * v          the input of a group of hidden units: a correlation, valid
    P(p = 1) = 1 - 1 / (1 + sum over the block of exp I)            probabilistic max pooling, blocks of 2x2

Each layer is a restricted Boltzmann machine whose weights are shared by all places, learned without labels (contrastive
divergence) one after the other; this is the pass that uses it: every unit is its probability given the layer below, the
mean-field approximation. Layer 1 finds edges, layer 2 contours and parts, a third one whole faces.

The task is classification: the paper gives the pooled probabilities of all layers to a linear classifier (an SVM), and
so does this network, with a linear layer that can also be trained from end to end. `beliefs(x)` are the probabilities.

- conv_dbn: natural images and Caltech-101: 24 kernels of 10x10, then 100 of 10x10. 100x100 grey pixels.
- conv_dbn_digits: MNIST: 40 kernels of 12x12, then 40 of 6x6. 28x28.

Not here: learning by contrastive divergence, top-down inference, and the whitening of the pixels in front of it.

Lee, Grosse, Ranganath, Ng 2009, Convolutional deep belief networks for scalable unsupervised learning of hierarchical
representations, sections 3 and 4. Test: tests/test_conv_dbn.py.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from edgecnn.layers.probabilistic import ProbabilisticMaxPool2d
from edgecnn.networks.spec import ModelSpec, unit_range

Layer = tuple[int, int]
"""(groups of hidden units, side of their kernels)."""
POOL = 2


class ConvDBN(nn.Module):
    """Grey images (N, 1, side, side) -> logits (N, num_classes)."""

    def __init__(self, layers: tuple[Layer, ...], side: int, num_classes: int = 10) -> None:
        super().__init__()
        self.machines = nn.ModuleList()
        self.pool = ProbabilisticMaxPool2d(POOL)
        channels, features = 1, 0
        for groups, kernel in layers:
            self.machines.append(nn.Conv2d(channels, groups, kernel))
            side = (side - kernel + 1) // POOL
            channels, features = groups, features + groups * side * side
        self.fc = nn.Linear(features, num_classes)

    def beliefs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """P(p = 1) of every layer, (N, groups, rows, columns), the lowest first."""
        found = []
        for machine in self.machines:
            x = self.pool(machine(x))
            found.append(x)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.cat([belief.flatten(1) for belief in self.beliefs(x)], 1))


PAPER = "Lee et al. 2009"
SPECS = (
    ModelSpec(
        "conv_dbn", partial(ConvDBN, ((24, 10), (100, 10)), 100), unit_range(100, 100, 1), PAPER, num_classes=101
    ),
    ModelSpec(
        "conv_dbn_digits", partial(ConvDBN, ((40, 12), (40, 6)), 28), unit_range(28, 28, 1), PAPER, num_classes=10
    ),
)
