"""A network is tried on one seeded sample, before the road is walked.

Test: tests/test_sources.py, tests/test_forward.py.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from edgecnn.networks import callables
from edgecnn.networks.axes import AXES, axes_of
from edgecnn.networks.forward import listed, parameters
from edgecnn.networks.network import Network
from exporters.export_causes import place_of
from runtimes.base import BadInput, Tensors

SEED = 0
_LOOKED_UP = re.compile(r"index out of range in self|argument #1 'indices'")
"""In what torch says when an embedding is given what is no index of its own."""


def probe(network: Network) -> Any:
    """What the module answers to one picture: what does not fit is found here, not minutes later on the road.

    Raises `BadInput` for a module that does not run on its shape, or that answers differently when asked again.
    """
    feeds = network.made(1, np.random.default_rng(SEED))
    before = {name: value.clone() for name, value in network.module.named_buffers()}
    answer, again = tried(network, feeds), tried(network, feeds)
    if not _same(answer, again) and _changed(feeds, network):
        raise BadInput(
            f"{network.name}: its forward changes its input in place, as `x -= 0.5` does, and so answers differently "
            "each time; write `x = x - 0.5`"
        )
    kept = [] if _same(answer, again) else _written(before, network.module)
    if kept:
        raise BadInput(
            f"{network.name}: its forward writes the buffer {kept[0]}, a state that it keeps between calls, and so "
            "answers differently each time; make the state an input and an output of forward"
        )
    if not _same(answer, again):
        raise BadInput(
            f"{network.name}: answers the same picture differently each time; is there a dropout without "
            "training=self.training, or a random number?"
        )
    return answer


def tried(network: Network, feeds: Tensors) -> Any:
    """What the module answers to `feeds`; raises `BadInput` for one that does not run on their shapes."""
    try:
        with callables.quiet():
            return network.answer(feeds)
    except Exception as error:
        raise BadInput(f"{network.name}: {_why_not(error, network, feeds)}") from error


def _written(before: Mapping[str, torch.Tensor], module: nn.Module) -> list[str]:
    """The buffers of `module` that are no longer what they were."""
    now = dict(module.named_buffers())
    return [name for name, value in now.items() if name not in before or not torch.equal(value, before[name])]


def _changed(feeds: Tensors, network: Network) -> bool:
    """Whether the module wrote into what it was fed, whose memory the tensors share."""
    fresh = network.made(1, np.random.default_rng(SEED))
    return any(not np.array_equal(value, fresh[name]) for name, value in feeds.items())


def _why_not(error: Exception, network: Network, feeds: Tensors) -> str:
    if isinstance(error, TypeError) and "positional argument" in str(error) and not place_of(error):
        if named := [name for name, must in parameters(network.module).items() if must]:
            return f"its forward takes {listed(named)} by name alone; write `forward(self, {', '.join(named)})`"
        return (
            "its forward wants another number of inputs than one, and does not name them; name each, and give their "
            "shapes as `input_shapes` on it"
        )
    if _LOOKED_UP.search(str(error)):
        return (
            f"looks numbers up in an embedding{place_of(error)}; inputs are float32 and fed as they are, so that "
            "indices cannot be fed: take the embedding out, and feed the vectors that it gives"
        )
    if "quantized::" in str(error):
        return f"is quantized by torch{place_of(error)}; give the float network, of which int8 is made here"
    cause = textwrap.shorten(str(error).partition("\n")[0] or type(error).__name__, 110, placeholder=" ...")
    sizes = {name: ",".join(map(str, value.shape)) for name, value in feeds.items()}
    size, way = next(iter(sizes.values())), f"give --input-shape {AXES[axes_of(network.module)]}"
    if network.several is not None:
        size, way = " and ".join(f"{name} {text}" for name, text in sizes.items()), "give other shapes"
    return f"does not run on {size}{place_of(error)} ({cause}); mend it, or {way}"


def _same(answer: Any, again: Any) -> bool:
    """Equal up to the rounding of sums in another order."""
    pairs = zip(pytree.tree_leaves(answer), pytree.tree_leaves(again), strict=True)
    return all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().amax()) if a.numel() else 0.0, equal_nan=True)
        for a, b in pairs
        if isinstance(a, torch.Tensor) and a.is_floating_point()
    )
