"""A PyTorch network as one side of a diff: forward hooks see what each module makes, and can put other values there.

    module called  ──hook──> value kept              the last one that is wanted ends the run
    its parents    ──hook──> reference's value       the module alone, on inputs that are given

Test: tests/test_torch_side.py.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch import nn

from edgecnn.checking.layer import Layer
from edgecnn.data.adapting import Adapter
from edgecnn.networks.assumptions import NOTHING, Assumed
from edgecnn.networks.sources import Network, resolve
from exporters.layerwise.calls import Call
from exporters.torch_export import Examples, Shapes, applied, evaluating, zeros
from runtimes.base import Array, Runner, Tensors
from runtimes.execution.shapes import ShapeText
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import TensorInfo

Seen = Callable[[str, torch.Tensor], torch.Tensor | None]
"""Takes the name of a call and what it made; what it returns is put in its place."""


class _Done(Exception):
    """All that was wanted is there."""


@dataclass
class ModuleSide:
    """A module in eval mode, and the calls of its modules in the order in which they end."""

    name: str
    module: nn.Module
    inputs: tuple[TensorInfo, ...]
    calls: tuple[Call, ...]
    preprocess: Preprocess | None = None
    quantized: bool = False
    seeded: bool = False
    feeds: dict[str, str] = field(default_factory=dict)
    adapt: Adapter | None = None
    carried: Preprocess | None = None
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    assumed: Assumed = NOTHING
    said: str = ""

    def open(self, wanted: Sequence[str]) -> Runner:
        def run(given: Tensors) -> Tensors:
            found: dict[str, Array] = {}

            def keep(name: str, value: torch.Tensor) -> None:
                if name in wanted:
                    found[name] = value.numpy().copy()  # the next module may work in place
                    if len(found) == len(set(wanted)):
                        raise _Done

            with contextlib.suppress(_Done):
                _run(self.module, self._input(given), keep)
            return {name: found[name] for name in wanted}

        return run

    def alone(self, tensor: str, given: Tensors) -> Runner:
        own = set(given)

        def run(values: Tensors) -> Tensors:
            made: dict[str, Array] = {}

            def put(name: str, value: torch.Tensor) -> torch.Tensor | None:
                if name == tensor:
                    made[name] = value.numpy().copy()
                    raise _Done
                return torch.from_numpy(np.array(values[name])) if name in own and name in values else None

            with contextlib.suppress(_Done):
                _run(self.module, self._input(values), put)
            return made

        return run

    def layer(self, tensor: str, parents: Sequence[str]) -> Layer:
        call = next(call for call in self.calls if call.name == tensor)
        return Layer(call.path or self.name, call.kind, call.path)

    def _input(self, given: Tensors) -> dict[str, torch.Tensor]:
        theirs = {own: name for name, own in self.feeds.items()}
        values = {info.name: given[theirs.get(info.name, info.name)] for info in self.inputs}
        ready = values if self.adapt is None else {name: self.adapt(value) for name, value in values.items()}
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in ready.items()}


def open_module(
    source: str | nn.Module,
    weights: Path | None,
    input_shape: ShapeText | None,
    decode: str | None = None,
    answer: str | int | None = None,
) -> ModuleSide:
    """The network SOURCE with `weights`, run once to learn its calls; raises `BadInput`."""
    network = resolve(source, weights, input_shape, decode=decode, answer=answer)
    return module_side(network, source if isinstance(source, str) else network.name)


def module_side(network: Network, name: str) -> ModuleSide:
    calls = tuple(trace(network.module, network.shapes))
    return ModuleSide(name, network.module, network.inputs, calls, network.preprocess, seeded=network.seeded,
                      assumed=network.assumed, said=network.said)  # fmt: skip


def trace(module: nn.Module, shapes: Shapes) -> Iterator[Call]:
    """The calls of all modules in `module` that give one tensor, and the network's outputs, for zeros of its shapes."""
    kinds = {path: (type(m).__name__, not any(True for _ in m.children())) for path, m in module.named_modules()}
    found: list[tuple[str, tuple[int, ...]]] = []
    _run(module, zeros(shapes), lambda name, value: found.append((name, tuple(value.shape))))
    for name, size in found:
        path, _, index = name.partition("#")
        yield Call(path, int(index or 0), kinds[path][0], size, kinds[path][1])


def _run(module: nn.Module, given: Examples, see: Seen) -> None:
    """Run `module` with `see` behind every module that makes one tensor."""
    counts: collections.Counter[str] = collections.Counter()
    with evaluating(module), contextlib.ExitStack() as stack:
        for path, inner in module.named_modules():
            stack.callback(inner.register_forward_hook(_hook(path, counts, see)).remove)
        applied(module, given)


def _hook(path: str, counts: collections.Counter[str], see: Seen) -> Callable[..., Any]:
    def hook(module: nn.Module, given: Any, made: Any) -> Any:
        if not isinstance(made, torch.Tensor):
            for i, value in enumerate(pytree.tree_leaves(made) if not path else ()):
                see(Call("", i, "", (), False).name, value)
            return None
        name = Call(path, counts[path], "", (), True).name
        counts[path] += 1
        return see(name, made)

    return hook
