"""Layers whose sizes the first input decides (nn.LazyConv2d, nn.LazyLinear): they get them before anything reads them.

    nn.LazyLinear(3)  ->  one forward on zeros of the input's shape  ->  nn.Linear(n, 3), drawn like any other layer

Their values come from torch's generator, so that the same seed draws the same. Test: tests/test_lazy.py.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
from torch import nn
from torch.nn.parameter import is_lazy

from edgecnn.networks.axes import AXES, axes_of, first_channels
from edgecnn.networks.forward import InputShape, picture_of, taken
from edgecnn.networks.network import Network
from edgecnn.networks.own_attributes import carried
from edgecnn.networks.probing import tried
from edgecnn.networks.spec import Blueprint, shape_of
from edgecnn.tasks import OTHER
from runtimes.base import BadInput


def unsized(module: nn.Module) -> list[str]:
    """The layers of `module` whose sizes nothing has decided yet."""
    values = chain(module.named_parameters(), module.named_buffers())
    return list(dict.fromkeys(name.rpartition(".")[0] or "it" for name, value in values if is_lazy(value)))


def sized(plan: Blueprint, module: nn.Module, given: InputShape | None) -> nn.Module:
    """`module`, its lazy layers as large as an input of the shape `given`, else of that in its code, makes them.

    Raises `BadInput` where no shape is known, or where `forward` leaves one of them out.
    """
    if not unsized(module):
        return module
    plan = carried(plan, module, OTHER)
    shape, several = taken(plan, module, given)
    shape = shape or plan.input_shape
    if shape is None and plan.preprocess is not None:
        channels = first_channels(module) or plan.preprocess.channels
        shape = shape_of((channels, *plan.preprocess.size), plan.preprocess.channels_last)
    if several is not None:
        shape = picture_of(several)
    if shape is None:
        raise BadInput(
            f"{plan.name}: has lazy layers, as large as its input makes them, and does not say its input shape; "
            f"give --input-shape {AXES[axes_of(module)]}, or `input_shape` on it"
        )
    draft = Network(plan.name, module.eval(), shape, None, several=several)
    tried(draft, {info.name: np.zeros((1, *info.shape[1:]), np.float32) for info in draft.inputs})
    left = unsized(module)
    if left:
        raise BadInput(f"{plan.name}: its forward does not run {left[0]}, so that its sizes are unknown; take it out")
    return module
