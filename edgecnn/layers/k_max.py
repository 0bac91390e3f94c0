"""k-max pooling: the k largest values of a row, in the order in which they stood.

    k-max          k = 2:  3 1 5 2 4  ->  5 4
    dynamic k-max  k = max(k_top, ceil((L - l) / L n))         layer l of L, n values in the row: fewer towards the top

Pooling for rows of any length (sentences) that keeps *how often* a feature fires and in which order, where max pooling
keeps only whether. k_top is the number that the fully connected layer behind the last one wants.

Of equal values (zeros behind a ReLU) the earlier ones stay. Exported as TopK, a sort of its places (TopK again) and
GatherElements.

Kalchbrenner, Grefenstette, Blunsom 2014, A convolutional neural network for modelling sentences, sections 3.2 and 3.3.
Test: tests/test_layers.py.
"""

from __future__ import annotations

import torch
from torch import nn

from runtimes.base import BadInput


def k_max(x: torch.Tensor, k: int) -> torch.Tensor:
    """(..., n) -> (..., k): the `k` largest along the last axis, in their order in `x`."""
    if torch.onnx.is_in_onnx_export():
        places = x.topk(k, -1).indices  # ONNX promises the lower place of equal values, torch promises nothing
    else:
        places = x.sort(stable=True, dim=-1, descending=True).indices[..., :k]
    return x.gather(-1, places.sort(-1).values)


class KMaxPool1d(nn.Module):
    """(N, C, n) -> (N, C, k); n must be at least k."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return k_max(x, self.k)


class DynamicKMaxPool1d(nn.Module):
    """(N, C, n) -> (N, C, max(k_top, ceil((layers - layer) / layers n))); `layer` counts from 1; n at least k_top.

    The graph computes k where n is open.
    """

    def __init__(self, k_top: int, layer: int, layers: int) -> None:
        super().__init__()
        if not 1 <= layer <= layers:
            raise BadInput(f"layer {layer} of {layers}: layers count from 1 to {layers}")
        self.k_top, self.layer, self.layers = k_top, layer, layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share = (x.shape[-1] * (self.layers - self.layer) + self.layers - 1) // self.layers
        return k_max(x, torch.sym_max(self.k_top, share))  # type: ignore[no-untyped-call]
