"""Parameters and multiply-adds of a PyTorch module, counted while one sample runs through it.

    convolution       output elements x (input channels / groups) x kernel elements
    transposed        input elements x (output channels / groups) x kernel elements
    fully connected   output elements x input features
    any other         what its operators multiply (aten.py): recurrent layers, attention, `F.conv2d`, `@`, einsum
    tiled             output elements x taps: the layer's definition; torch and the graph also compute what pads the
                      last turn and throw it away, so that a graph counts more where the outputs are no multiple of it

One fused multiply-add is one MAC. Biases, norms, activations, pooling and additions count nothing, as is usual. Work
is told by the module that does it: a layer, or `functional`, where a module with layers in it multiplies by itself.
Oracle in tests/test_count.py: torch.utils.flop_counter (2 FLOPs = 1 MAC).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from edgecnn.numbers.aten import Operators, Product
from edgecnn.numbers.layer_table import Part, Sizes
from edgecnn.numbers.torch_table import TILED, parts_of
from exporters.torch_export import Shapes, applied, evaluating, zeros

FUNCTIONAL = "functional"
"""The operator of a row whose work no layer does."""


@dataclass(frozen=True)
class Count:
    """`params`: trainable scalars (running statistics are not parameters). `macs`: multiply-adds for one image."""

    params: int
    macs: int


@dataclass(frozen=True)
class Step:
    """One call of a layer, or one product in no layer. `op` is empty for a pooling that is neither: it has no row.

    `held`: bytes of its first input and of what it made.
    """

    module: str
    op: str
    output: Sizes
    params: int
    macs: int
    parts: tuple[Part, ...]
    held: int = 0


@dataclass
class _Frame:
    """A module while it runs: what it multiplied itself, and the steps of the modules in it, in their order."""

    layer: nn.Module | None
    done: list[Product | Step] = field(default_factory=list)


def count(module: nn.Module, input_shape: Shapes) -> Count:
    """Parameters of `module` and its multiply-adds for one sample, as an image (C, H, W); leaves it as it was."""
    steps, _ = walked(module, input_shape)
    return Count(sum(p.numel() for p in module.parameters()), sum(step.macs for step in steps))


def walked(module: nn.Module, input_shape: Shapes) -> tuple[list[Step], Any]:
    """(what ran, in its order; what `module` answered) for one sample of zeros; leaves it as it was."""
    names = {layer: name for name, layer in module.named_modules() if not _of_weights(name)}
    root = _Frame(None)
    frames = [root]

    def enter(layer: nn.Module, args: Any, kwargs: Any) -> None:
        frames.append(_Frame(layer))

    def leave(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any) -> None:
        frame = frames.pop()
        frames[-1].done += _steps(frame, names[layer], _first((*args, *kwargs.values())[:1]), made)

    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    given = {name: value.to(device) for name, value in zeros(input_shape).items()}
    weights = [*module.parameters(), *module.buffers()]
    with contextlib.ExitStack() as stack:
        for layer in names:
            if not isinstance(layer, torch.jit.ScriptModule):  # takes no hooks; its operators are seen all the same
                stack.callback(layer.register_forward_pre_hook(enter, with_kwargs=True).remove)
                stack.callback(layer.register_forward_hook(leave, with_kwargs=True).remove)
        stack.enter_context(evaluating(module))
        stack.enter_context(_step_by_step())
        stack.enter_context(Operators(weights, lambda product: frames[-1].done.append(product)))
        answers = applied(module, given)
    return [step for done in root.done for step in _told(done, "", 0)], answers


@contextlib.contextmanager
def _step_by_step() -> Iterator[None]:
    """Attention in its single operators, not in the one that torch has for some of it."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _of_weights(name: str) -> bool:
    """Whether the module called `name` makes the weights of another: `c.parametrizations.weight.0`."""
    return "parametrizations" in name.split(".")


def _steps(frame: _Frame, path: str, given: torch.Tensor | None, made: Any) -> list[Product | Step]:
    """One step for a layer: it has no modules in it, or called none of them; else those of its modules and its own."""
    layer, output = frame.layer, _first(made)
    assert layer is not None
    leaf = all(_of_weights(name) for name, _ in layer.named_children())
    products = [done for done in frame.done if isinstance(done, Product)]
    if not leaf and (len(products) < len(frame.done) or not products):
        own = sum(value.numel() for value in layer.parameters(recurse=False))
        first = next((done for done in products if done.macs), None)
        return [step for done in frame.done for step in _told(done, path, own if done is first else 0)]
    if output is None or (given is None and not products):
        return []
    macs = sum(product.macs for product in products)
    macs = output.numel() * layer.taps if isinstance(layer, TILED) else macs
    known = None if given is None else parts_of(layer, path, given, output, macs)
    parts = [replace(part, module=path) for p in products for part in p.parts] if known is None else known
    params = sum(value.numel() for value in layer.parameters())
    op = parametrize.type_before_parametrizations(layer).__name__
    held = sum(value.numel() * value.element_size() for value in (given, output) if value is not None)
    return [Step(path, op, tuple(output.shape), params, macs, tuple(parts), held)]


def _told(done: Product | Step, path: str, params: int) -> Iterator[Step]:
    """A product in no layer as a step of its own, of the module called `path`."""
    if isinstance(done, Step):
        yield done
    else:
        parts = tuple(replace(part, module=path) for part in done.parts)
        yield Step(path, FUNCTIONAL if done.macs else "", done.output, params, done.macs, parts)


def _first(value: Any) -> torch.Tensor | None:
    """The tensor that `value` is, or that stands first in it."""
    if isinstance(value, PackedSequence):
        return value.data
    if isinstance(value, list | tuple) and value:
        return _first(value[0])
    if isinstance(value, Mapping):
        return _first(next(iter(value.values()), None))
    return value if isinstance(value, torch.Tensor) else None
