"""Whether a network's height and width can stay open (the length of signals, the sides of volumes), and another size
to prove it at; if not, why not.

    another size, of no round number  --PyTorch-->  runs: any height and width
    some steps of 32 larger           --PyTorch-->  runs: in steps, as where maps are halved, doubled and joined; of 16
                                                    too? of 8, 4, 2? the smallest that runs is said
    neither, or known to be exported for one size alone            ->  BadInput with the reason, before the export
    the graph at that size differs from PyTorch                    ->  BadInput after it

Test: tests/test_dynamic_size.py.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch

from edgecnn.data.samples import Ready
from edgecnn.data.textures import textures
from edgecnn.networks.forward import refuse_for
from edgecnn.networks.network import Network
from exporters.export_causes import first_line
from exporters.torch_export import evaluating
from runtimes.base import BadInput, Runner, Tensors, one_line
from runtimes.imaging.preprocess import Preprocess
from runtimes.imaging.shown import sample_shape
from runtimes.parity import compare

STEPS = (32, 16, 8, 4, 2)
"""The first is what most networks that halve their maps take; one that takes it may take those behind it too."""
SAME_FUNCTION_DB = 40.0
"""float32 alone leaves more, a pool over the wrong pixels less; how much more is every stage's own limit to say."""
POOLS = (
    torch.nn.AdaptiveAvgPool1d, torch.nn.AdaptiveAvgPool2d, torch.nn.AdaptiveAvgPool3d,
    torch.nn.AdaptiveMaxPool1d, torch.nn.AdaptiveMaxPool2d, torch.nn.AdaptiveMaxPool3d,
)  # fmt: skip
SIDES = {1: "length", 2: "height and width", 3: "depth, height and width"}


def found(network: Network) -> tuple[Ready, str]:
    """(another size at which the module runs, what sizes it takes); raises `BadInput` where it is tied to its own.

    A module knows best: its attribute `one_size`, a text, is such a reason.
    """
    if network.several is not None:
        refuse_for(network.several.names, "--dynamic-size")
    if network.preprocess is not None and network.channels_last:
        raise BadInput(f"{network.name}: takes channels last; --dynamic-size is for channels first, leave it out")
    sides = SIDES.get(len(network.input_shape) - 1)
    if sides is None:
        takes = list(network.input_shape)
        raise BadInput(f"{network.name}: takes {takes}, nothing with sides; leave --dynamic-size out")
    told = getattr(network.module, "one_size", "")
    why = told if isinstance(told, str) and told else _baked(network.module)
    if why:
        raise _tied(network, why)
    ready = network.preprocess or network.input_shape
    why = _refusal(network, another_size(ready))
    if not why:
        return another_size(ready), f"any {sides}"
    runs = list(itertools.takewhile(lambda step: not _refusal(network, next_size(ready, step)), STEPS))
    if not runs:
        raise _tied(network, why)
    own = _text(network.input_shape[1:])
    several = {1: "lengths", 2: "heights and widths", 3: "sides"}[len(network.input_shape) - 1]
    return next_size(ready, runs[-1]), f"{several} in steps of {runs[-1]} from {own}"


def require_graph(network: Network, session: Runner, reference: Runner, feed: Tensors) -> None:
    """Raise `BadInput` where the graph answers otherwise than the module on `feed`, of another size, if at all.

    torch bakes more sizes in without a word than `_baked` knows.
    """
    try:
        if compare(reference, session, [feed]).snr_db >= SAME_FUNCTION_DB:
            return
        how = "answers otherwise"
    except BadInput:
        how = "does not run"
    (value,) = feed.values()
    raise _tied(network, f"torch's exporter ties it to that size: the graph {how} at {_text(value.shape[2:])}")


def built_for(network: Network, dynamic_size: bool) -> str | None:
    """The size of the arrays that a network of open size is calibrated on, as text; None where nobody need say it."""
    return ",".join(map(str, network.input_shape)) if dynamic_size and network.preprocess is None else None


def another_size(ready: Ready) -> Ready:
    """`ready` for larger images of no round size and another shape, all of whose sides are odd: what a graph has baked
    in does not fit them, nor does a map that was halved and doubled again.

    >>> another_size((3, 64, 64)), another_size((1, 16000)), another_size((1, 8, 16, 16))
    ((3, 81, 75), (1, 20001), (1, 11, 21, 23))
    """
    first, *others = sample_shape(ready)[1:]
    larger = [first + first // 4 + 1, *(side + side // 8 + 2 + 2 * i for i, side in enumerate(others))]
    return _sized(ready, tuple(side | 1 for side in larger))


def next_size(ready: Ready, step: int) -> Ready:
    """`ready` for larger images of another shape, an odd number of whole steps larger: larger steps do not fit it.

    >>> next_size((3, 64, 64), 32), next_size((3, 64, 64), 2)
    ((3, 160, 96), (3, 78, 74))
    """
    first, *others = sample_shape(ready)[1:]
    more = ((first // 8 // step | 1) + 2, *(side // 8 // step | 1 for side in others))
    return _sized(ready, tuple(side + step * n for side, n in zip((first, *others), more, strict=True)))


def _sized(ready: Ready, size: tuple[int, ...]) -> Ready:
    if isinstance(ready, Preprocess):
        return replace(ready, size=(size[0], size[1]), resize=None)
    return (ready[0], *size)


def _refusal(network: Network, ready: Ready) -> str:
    """Why the module does not run on images of another size; empty where it does."""
    try:
        with evaluating(network.module):
            network.module(torch.from_numpy(textures(ready, 1, np.random.default_rng(0))))
    except Exception as error:  # whatever a stranger's forward raises
        return f"PyTorch at {_text(sample_shape(ready)[1:])}: {first_line(error)}"
    return ""


def _baked(module: torch.nn.Module) -> str:
    """What of `module` torch exports for one size without a word; empty where nothing is known to be."""
    for layer in module.modules():
        size = layer.output_size if isinstance(layer, POOLS) else 1
        if any(n not in (1, None) for n in (size if isinstance(size, tuple) else (size,))):
            return f"torch exports its {type(layer).__name__}({size}) for that size alone"
    return ""


def _tied(network: Network, why: str) -> BadInput:
    size = _text(network.input_shape[1:])
    return BadInput(f"{network.name}: works at {size} only ({one_line(why, 160)}); leave --dynamic-size out")


def _text(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
