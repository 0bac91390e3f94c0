"""PyTorch module -> ONNX graph that still has its BatchNorms, with the module path of every node in its metadata.

    torch.onnx.export(dynamo=True, optimize=False) -> fold_constants -> remove unused nodes -> ours

Every other road (the exporter's own optimizer, its legacy mode, a default simplifier run) folds BatchNorm before we can
prove it. The exporter also answers a request for one opset with another without a word, so the opset is checked.
Each node is named `module.path/OpType` and carries `edgecnn.module`; traces with file paths of the machine are dropped.
Source: torch.onnx documentation, "torch.export-based ONNX Exporter". Test: tests/test_torch_export.py.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.utils import _pytree as pytree

from exporters.export_causes import cause, first_line, scripted, unfit
from exporters.graph import MODULE_KEY, get_meta, opset
from exporters.layerwise.origin import SCOPES_KEY, module_path
from exporters.padded_pools import keep_apart
from exporters.torch_forms import FORMS, AttentionOfOneHead
from runtimes.base import BadInput, EdgeError, Runner, Tensors, Unavailable

DEFAULT_OPSET = 20
SIZES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
"""What the open axes behind the channels are called, by how many there are."""
Shapes = Sequence[int] | Mapping[str, Sequence[int]]
"""Of one sample without the batch: of the one input, or of each by the name that `forward` has for it."""
Examples = Mapping[str, torch.Tensor]

Translation = Callable[..., Any]
"""Takes what a torch operator takes, as ONNX values, and returns the values of the nodes that stand for it."""
_translations: dict[str, Callable[[Any], Translation]] = {}


def exports_as(operator: str) -> Callable[[Callable[[Any], Translation]], Callable[[Any], Translation]]:
    """Say how the custom torch `operator` ("namespace::name") is written in ONNX, beside its definition.

    The decorated function takes the operator set (`op.Conv(...)` adds a node) and returns the translation.
    """

    def register(make: Callable[[Any], Translation]) -> Callable[[Any], Translation]:
        _translations[operator] = make
        return make

    return register


def _translation_table() -> dict[Any, Translation]:
    from onnxscript import opset18  # what torch's own translations are written in; the exporter raises all of it

    custom = {f"{operator}.default": make for operator, make in _translations.items()}
    table = {}
    for operator, make in {**FORMS, **custom}.items():
        namespace, name, overload = re.split(r"::|\.", operator)
        table[getattr(getattr(getattr(torch.ops, namespace), name), overload)] = make(opset18)
    return table


def export_module(
    module: nn.Module,
    input_shape: Shapes,
    *,
    opset_version: int = DEFAULT_OPSET,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
    input_name: str = "input",
    output_names: Sequence[str] = ("output",),
) -> onnx.ModelProto:
    """Export `module` in eval mode for one float32 input (N, *input_shape); N is symbolic unless told otherwise.

    `dynamic_size` leaves the axes behind the channels open too, under the names of `SIZES`. Where `input_shape` is a
    dict, there is an input of each name and shape in it; `input_name` is that of a single one.

    Raises `BadInput` when torch cannot trace the module, when a batch size is baked into it, or when the exporter
    produced another opset than the one asked for; `Unavailable` for an exporter that does not fit this torch. The
    module's train/eval flags are put back as they were.
    """
    draw = torch.Generator().manual_seed(0)
    drawn = {
        name: torch.randn(2 if dynamic_batch else 1, *shape, generator=draw)
        for name, shape in by_name(input_shape, input_name).items()
    }
    with evaluating(module), quiet(), AttentionOfOneHead():
        names = list(output_names) if len(output_names) > 1 else _names(module, drawn, output_names[0])
        require_own_names(module, list(drawn), names)
        program = _trace(module, drawn, opset_version, open_axes(drawn, dynamic_batch, dynamic_size), names)
        model = _without_invented_biases(_to_proto(program), module)
    if opset(model) != opset_version:
        wanted = f"ask for --opset {opset(model)}, or leave it at {DEFAULT_OPSET}"
        raise BadInput(f"opset {opset_version}: torch's exporter gave {opset(model)}; {wanted}")
    for batch in map(_batch, model.graph.input):
        if not dynamic_batch and batch != 1:
            raise EdgeError(f"the exporter made batch {batch} where 1 was asked for")
        if dynamic_batch and isinstance(batch, int):
            raise BadInput(
                f"batch: tracing fixes it to {batch} (a reshape with a number, affine_grid); mend the network, or add "
                "--static: one image at a time"
            )
    return _tidy(model)


def by_name(shapes: Shapes, name: str = "input") -> dict[str, tuple[int, ...]]:
    """The shape of each input; a single one is called `name`."""
    named = shapes if isinstance(shapes, Mapping) else {name: shapes}
    return {key: tuple(shape) for key, shape in named.items()}


def zeros(shapes: Shapes) -> dict[str, torch.Tensor]:
    """A batch of one sample for each input."""
    return {name: torch.zeros(1, *shape) for name, shape in by_name(shapes).items()}


def applied(module: nn.Module, given: Examples) -> Any:
    """What `module` answers. One input is the first of `forward`, whatever it is called; several go by their names."""
    if len(given) == 1:
        (value,) = given.values()
        return module(value)
    return module(**given)


def module_runner(module: nn.Module, output_names: Sequence[str]) -> Runner:
    """`module` as a `Runner`, in eval mode and without gradients: the reference that every later stage is held to.

    Tuples, lists and dicts of outputs are flattened in the order in which the exporter flattens them.
    """

    def run(feeds: Tensors) -> Tensors:
        given = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
        with evaluating(module):
            outputs = pytree.tree_leaves(applied(module, given))
        arrays = [value.detach().numpy() for value in outputs if isinstance(value, torch.Tensor)]
        return dict(zip(output_names, arrays, strict=True))

    return run


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put `module` in eval mode (an exported Dropout would be active otherwise) and restore every flag afterwards."""
    flags = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, training in flags:
            m.training = training


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's progress lines and warnings away from the user; stdout is for results."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # torch's loggers bring their own handlers
    try:
        noise = io.StringIO()  # a failed trace also dumps its whole graph
        with warnings.catch_warnings(), contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _names(module: nn.Module, examples: Examples, name: str) -> list[str]:
    """The outputs' names (`names_of`). Runs the module once: a wrong shape shows early."""
    try:
        outputs = applied(module, examples)
    except Exception as error:
        shape = " and ".join(",".join(map(str, example.shape)) for example in examples.values())
        raise BadInput(
            f"the network does not run on an input of shape {shape}: {first_line(error)}; see --input-shape"
        ) from error
    return names_of(outputs, name)


def names_of(outputs: Any, name: str = "output") -> list[str]:
    """What the `outputs` of a network are called: one is `name`, those of a dict are its keys, others `name_0` ..."""
    if isinstance(outputs, dict) and all(isinstance(v, torch.Tensor) and str(k) for k, v in outputs.items()):
        return [str(key) for key in outputs]
    count = len(pytree.tree_leaves(outputs))
    return [name] if count == 1 else [f"{name}_{i}" for i in range(count)]


def require_own_names(module: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raise `BadInput` where two things in the graph would have one name: an input and an output, or a parameter."""
    own = {*dict(module.named_parameters()), *dict(module.named_buffers())}
    for name in inputs:
        if name in outputs:
            raise BadInput(f"{name}: is the name of an input and of an output; rename the key that forward returns")
        if name in own:
            raise BadInput(f"{name}: is the name of an input and of a parameter of the network; rename one")


def open_axes(examples: Examples, batch: bool, size: bool) -> dict[str, dict[int, Any]]:
    """Axis -> its symbol for each input, for those of (N, C, sizes...) that stay open; the batch is the same in all."""
    first: dict[int, Any] = {0: torch.export.Dim("batch", min=1)} if batch else {}
    axes = {}
    for name, example in examples.items():
        # a bare name leaves it to torch what the size must satisfy; a Dim would have to say it here
        sizes = dict(enumerate(SIZES.get(example.ndim - 2, ()), 2)) if size else {}
        axes[name] = first | sizes
    return axes


def _trace(
    module: nn.Module,
    examples: Examples,
    opset_version: int,
    axes: dict[str, dict[int, Any]],
    output_names: list[str],
) -> torch.onnx.ONNXProgram:
    single = len(examples) == 1
    try:
        shapes = (_placed(module, axes) if single else axes) if any(axes.values()) else None
        program = torch.onnx.export(
            module,
            tuple(examples.values()) if single else (),
            kwargs=None if single else dict(examples),
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=opset_version,
            dynamic_shapes=shapes,
            input_names=list(examples),
            output_names=output_names,
            custom_translation_table=_translation_table(),
        )
    except Exception as error:
        if missing := unfit(error):
            raise Unavailable(missing) from error
        opaque = [path for path, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)]
        raise BadInput(f"torch cannot export this network: {scripted(opaque) or cause(error)}") from error
    assert program is not None
    return program


def _placed(module: nn.Module, axes: dict[str, dict[int, Any]]) -> tuple[Any, ...]:
    """The open `axes` of the only input, as torch.export wants them: what `*args` takes is a tuple in the tuple."""
    first = next(iter(inspect.signature(module.forward).parameters.values()), None)
    placed = tuple(axes.values())
    return (placed,) if first is not None and first.kind is first.VAR_POSITIONAL else placed


def _to_proto(program: torch.onnx.ONNXProgram) -> onnx.ModelProto:
    from onnx_ir.passes.common import RemoveUnusedNodesPass
    from onnxscript import ir, optimizer

    optimizer.fold_constants(program.model)
    RemoveUnusedNodesPass()(program.model)
    return ir.serde.serialize_model(program.model)


def _without_invented_biases(model: onnx.ModelProto, module: nn.Module) -> onnx.ModelProto:
    """Drop the zeros that the exporter adds to a convolution without bias.

    They would count as parameters, and those of a Conv3d have the shape (O, 2), which no runtime takes (0.7.2).
    """
    own = {*dict(module.named_parameters()), *dict(module.named_buffers())}
    invented = {v.name for v in model.graph.initializer if v.name not in own and not numpy_helper.to_array(v).any()}
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in invented:
            del node.input[2]
    read = {name for node in model.graph.node for name in node.input}
    for value in [v for v in model.graph.initializer if v.name in invented - read]:
        model.graph.initializer.remove(value)
    return model


def _batch(value: onnx.ValueInfoProto) -> int | str:
    dim = value.type.tensor_type.shape.dim[0]
    return dim.dim_param or int(dim.dim_value)


def _tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Name nodes by module, keep the module path as the only node metadata, drop everything that names this machine."""
    seen: dict[str, int] = {}
    for node in model.graph.node:
        path = module_path(get_meta(node).get(SCOPES_KEY, "[]"))
        name = f"{path}/{node.op_type}" if path else node.op_type
        seen[name] = seen.get(name, -1) + 1
        node.name = f"{name}_{seen[name]}" if seen[name] else name
        node.doc_string = ""
        del node.metadata_props[:]
        node.metadata_props.add(key=MODULE_KEY, value=path)
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
    _name_counts(model)
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
    model.producer_name, model.producer_version = "edgecnn", ""
    keep_apart(model)
    return model


def _name_counts(model: onnx.ModelProto) -> None:
    """Sizes that depend on values are `u0`, `u7` ... to torch; to the reader of a graph they are `found`, `found_1`."""
    names: dict[str, str] = {}
    for value in [*model.graph.output, *model.graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            for symbol in re.findall(r"\bu\d+\b", dim.dim_param):  # also inside of `3*batch*u0`
                count = len(names)
                name = names.setdefault(symbol, f"found_{count}" if count else "found")
                dim.dim_param = re.sub(rf"\b{symbol}\b", name, dim.dim_param)
