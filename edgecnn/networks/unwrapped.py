"""A network as it is exported: without what was put around it, its values in float32 and on the CPU.

    nn.DataParallel, DistributedDataParallel, torch.compile   ->  the network inside
    float16 and bfloat16                                      ->  a copy in float32: `export --fp16` makes float16 again
    another device                                            ->  a copy on the CPU
    the device "meta"                                         ->  refused: there are no values

The module that was given stays as it is. Test: tests/test_unwrapped.py.
"""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import nn

from runtimes.base import BadInput

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
COMPILED = "_orig_mod"
"""As torch.compile calls what it wraps."""
HALF = (torch.float16, torch.bfloat16)


def unwrapped(module: nn.Module, name: str) -> nn.Module:
    """`module`, called `name`, as it is exported; raises `BadInput` for one without values."""
    module = inside(module)
    values = list(chain(module.parameters(), module.buffers()))
    if any(value.is_meta for value in values):
        raise BadInput(
            f'{name}: has no values, for it lies on the device "meta"; make it elsewhere, or `to_empty` and load'
        )
    half = any(value.dtype in HALF for value in values)
    if not half and all(value.device.type == "cpu" for value in values):
        return module
    made = copy.deepcopy(module).cpu()
    return made.float() if half else made


def inside(module: nn.Module) -> nn.Module:
    """The network within wrappers that only say how it is run."""
    while isinstance(
        inner := module.module if isinstance(module, PARALLEL) else getattr(module, COMPILED, None), nn.Module
    ):
        module = inner
    return module
