"""How many axes a sample of a network has, read off its first convolution.

    Conv1d   C,L         sound, sensors          Conv2d   C,H,W     pictures          Conv3d   C,D,H,W     volumes

Test: tests/test_axes.py.
"""

from __future__ import annotations

from torch import nn

CONVOLUTIONS = {nn.Conv1d: 2, nn.Conv2d: 3, nn.Conv3d: 4}
AXES = {2: "C,L", 3: "C,H,W", 4: "C,D,H,W"}
"""How users write the shape of a sample."""


def axes_of(module: nn.Module) -> int:
    """Axes of one sample without its batch; those of a picture where `module` has no convolution."""
    first = _first(module)
    return next((axes for kind, axes in CONVOLUTIONS.items() if isinstance(first, kind)), 3)


def is_from(module: nn.Module, package: str) -> bool:
    """Whether the class of `module`, or one that it is made of, comes from `package`."""
    return any(kind.__module__.partition(".")[0] == package for kind in type(module).__mro__)


def first_channels(module: nn.Module) -> int:
    """Input channels of the first convolution in `module`; 3 where it has none."""
    first = _first(module)
    return 3 if first is None else int(first.in_channels)


def _first(module: nn.Module) -> nn.Conv1d | nn.Conv2d | nn.Conv3d | None:
    return next((m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None)
