"""A network as it is exported: without what was put around it, its values in float32 and on the CPU.

    DataParallel, AveragedModel, torch.compile and the like   ->  the network inside
    float16, bfloat16, float64, where forward does not cast   ->  a copy in float32: `export --fp16` makes float16 again
    what torch.export made, or prepared for its int8          ->  refused: another module is meant
    another device                                            ->  a copy on the CPU
    the device "meta"                                         ->  refused: there are no values

The module that was given stays as it is. Test: tests/test_unwrapped.py.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from edgecnn.networks.network import Network
from edgecnn.networks.probing import SEED, tried
from runtimes.base import BadInput

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
COMPILED = "_orig_mod"
"""As torch.compile calls what it wraps."""
WATCHING = ("torch.ao.quantization.observer", "torch.ao.quantization.fake_quantize")
"""Where the layers are from that torch adds to see what it will quantize."""
OTHER_FLOATS = (torch.float16, torch.bfloat16, torch.float64)


def unwrapped(module: nn.Module, name: str) -> nn.Module:
    """`module`, called `name`, as it is exported; raises `BadInput` for one that cannot be."""
    module = inside(module)
    if any(type(part).__module__ in WATCHING for part in module.modules()):
        raise BadInput(
            f"{name}: is prepared to be quantized by torch; give the float network, of which int8 is made here"
        )
    if any(kind.__module__.startswith("torch.export.") for kind in type(module).__mro__):
        raise BadInput(f"{name}: is what torch.export made of a network; give the nn.Module that was exported")
    values = list(chain(module.parameters(), module.buffers()))
    if any(value.is_meta for value in values):
        raise BadInput(
            f'{name}: has no values, for it lies on the device "meta"; make it elsewhere, or `to_empty` and load'
        )
    return module if all(value.device.type == "cpu" for value in values) else copy.deepcopy(module).cpu()


def in_float32(network: Network) -> Network:
    """`network`, of float16, bfloat16 or float64 in a float32 copy, unless its code casts what it is fed."""
    if all(value.dtype not in OTHER_FLOATS for value in network.module.parameters()):
        return network
    try:
        tried(network, network.made(1, np.random.default_rng(SEED)))
    except BadInput:
        return replace(network, module=copy.deepcopy(network.module).float())
    return network


def inside(module: nn.Module) -> nn.Module:
    """The network within wrappers that only say how it is run."""
    while isinstance(
        inner := module.module if isinstance(module, WRAPPERS) else getattr(module, COMPILED, None), nn.Module
    ):
        module = inner
    return module
