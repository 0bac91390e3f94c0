"""A PyTorch network as numbers, and as a runner; the only part of `inspect` and `check` that imports torch.

Test: tests/test_inspect.py, tests/test_compare.py.
"""

from __future__ import annotations

import collections
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from edgecnn import doubts
from edgecnn.given_model import called
from edgecnn.networks.sources import resolve
from edgecnn.numbers.count import walked
from edgecnn.numbers.inspection import Inspection, Layer
from edgecnn.numbers.layer_table import Part, layer_table
from exporters.torch_export import Shapes, applied, evaluating, module_runner, names_of, zeros
from runtimes.base import Array, BadInput, Runner, one_line
from runtimes.execution.shapes import ShapeText
from runtimes.session import TensorInfo


def torch_runner(module: nn.Module, input_shape: Shapes, double: bool = False, own_names: Sequence[str] = ()) -> Runner:
    """`module` as a runner whose outputs have `own_names` where these are as many, else those that an export gives
    them: the keys of a dict, `output`, or `output_0` ... . With `double`, a copy of it computes in float64. Raises
    `BadInput` for a module that does not run on zeros.
    """
    with evaluating(module):
        try:
            names = names_of(applied(module, zeros(input_shape)))
        except Exception as error:  # the code of a module can raise anything
            raise BadInput(f"{type(module).__name__}: does not run on zeros; {one_line(str(error), 150)}") from error
    names = list(own_names) if len(own_names) == len(names) else names
    if not double:
        return module_runner(module, names)
    run = module_runner(copy.deepcopy(module).double(), names)
    return lambda feeds: run({name: value.astype(np.float64) for name, value in feeds.items()})


def inspect_source(
    source: str | nn.Module, weights: Path | None, input_shape: ShapeText | None, answer: str | int | None = None
) -> Inspection:
    """Inspect the PyTorch network that `source` names or is by running it on one image of zeros."""
    network = resolve(source, weights, input_shape or None, answer=answer)
    size_alone = replace(network, assumed=replace(network.assumed, pixels=False))  # which no count depends on
    layers, parts, made, largest = watch(network.module, network.shapes)
    tensors = [*network.module.parameters(), *network.module.buffers()]
    return Inspection(
        model=called(source),
        kind="torch",
        params=sum(p.numel() for p in network.module.parameters()),
        macs=sum(layer.macs or 0 for layer in layers),
        activation_bytes=largest,
        size_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        opset=None,
        inputs=network.inputs,
        outputs=tuple(TensorInfo(name, str(value.dtype), ("batch", *value.shape[1:])) for name, value in made.items()),
        ops=dict(collections.Counter(layer.op for layer in layers).most_common()),
        layers=tuple(layers),
        table=layer_table((1, *network.input_shape), parts),
        warnings=doubts.told(doubts.of_input(size_alone), network.said),
    )


def watch(module: nn.Module, input_shape: Shapes) -> tuple[list[Layer], list[Part], dict[str, Array], int]:
    """Layers in the order they ran, the lines of the table, the outputs, and the largest bytes of input and output that
    one layer holds."""
    steps, answers = walked(module, input_shape)
    outputs = [value for value in pytree.tree_leaves(answers) if isinstance(value, torch.Tensor)]
    made = dict(zip(names_of(answers), (value.numpy() for value in outputs), strict=True))
    layers = [Layer(y.module, y.op, y.module, y.output, y.params, y.macs) for y in steps if y.op]
    return layers, [part for step in steps for part in step.parts], made, max((y.held for y in steps), default=0)
