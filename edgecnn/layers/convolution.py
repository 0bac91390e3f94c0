"""True convolution: the kernel is flipped before it slides, as in mathematics and signal processing.

    (f * g)[i] = sum_m f[i - m] g[m]            correlation, which network libraries call convolution: f[i + m] g[m]

Flipping a learned kernel is another learned kernel, so both train to the same networks; a kernel that is *given* (a
filter of signal processing, a blur that is not symmetric) needs the flip. `weight` holds g as it is written down; the
graph holds the flipped constant and is a plain Conv. `same` is the middle of `full`, as in scipy.signal.convolve: for
an even kernel the odd zero comes first, where a correlation has it last.

Goodfellow, Bengio, Courville 2016, Deep learning, section 9.1, eq. 9.4 to 9.6. Test: tests/test_layers.py.
"""

from __future__ import annotations

import torch

from edgecnn.layers import padding
from edgecnn.layers.padding import Mode, slide

MIRRORED: dict[Mode, Mode] = {"same": "same_lower", "same_lower": "same", "valid": "valid", "full": "full"}


class TrueConv1d(padding.Conv1d):
    """(N, C, L) -> (N, O, L'); arguments as of `padding.Conv1d`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return slide(self, x, self.weight.flip(2), MIRRORED[self.mode])


class TrueConv2d(padding.Conv2d):
    """(N, C, H, W) -> (N, O, H', W'); arguments as of `padding.Conv2d`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return slide(self, x, self.weight.flip(2, 3), MIRRORED[self.mode])


class TrueConv3d(padding.Conv3d):
    """(N, C, D, H, W) -> (N, O, D', H', W'); arguments as of `padding.Conv3d`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return slide(self, x, self.weight.flip(2, 3, 4), MIRRORED[self.mode])
