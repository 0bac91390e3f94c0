"""Two graphs as one: what a model answers goes into a tail, whose answers are the joined model's.

    image -> model -> raw          raw -> tail -> boxes, scores, labels, image
    image -> model -> raw -> [Transpose] -> tail -> boxes, scores, labels, image

Both in one operator set: the tail's is lowered to the model's, down to 15, where `Shape` learned to cut; an older model
is raised to that. What the tail's answers are called must not be taken: a tensor of the model by such a name gets
another one. Boxes and scores in two tensors become one, and boxes are cut at the edges of the picture, whose size the
graph reads off its input where that is open. Source: onnx.compose. Test: tests/test_decode.py.
"""

from __future__ import annotations

import onnx
from onnx import compose, helper

from exporters.graph import free_inputs, get_meta, nodes_within, opset, set_meta
from exporters.load import check_model
from exporters.targets.target import at_opset
from runtimes.base import BadInput

LEAST_OPSET = 15
PREFIX = "decode/"


def joined(model: onnx.ModelProto, tail: onnx.ModelProto, transposed: bool, name: str) -> onnx.ModelProto:
    """`model`, called `name`, whose one output goes into the one input of `tail`; `transposed`: its last two axes are
    swapped on the way. Metadata and names of the model stay. Raises `BadInput` where onnx cannot bring them together.
    """
    version = max(opset(model), LEAST_OPSET)
    body = at_opset(model, version, name)
    end = compose.add_prefix(at_opset(tail, version, name), PREFIX, rename_outputs=False, rename_inputs=True)
    names = [value.name for value in end.graph.output]
    _give_way(body, names)
    raw, fed = body.graph.output[0].name, end.graph.input[0].name
    if transposed:
        raw = _turned(body, raw)
    body.ir_version = end.ir_version = max(body.ir_version, helper.find_min_ir_version_for(list(end.opset_import)))
    for part in (body, end):
        _one_set(part)
    kept = get_meta(model)
    del body.metadata_props[:]
    try:
        made = compose.merge_models(body, end, io_map=[(raw, fed)], name=model.graph.name or "joined",
                                    producer_name=model.producer_name)  # fmt: skip
    except (ValueError, onnx.checker.ValidationError) as error:
        raise BadInput(f"{name}: cannot be joined with the decoding ({str(error)[:120]}); export it again") from error
    _one_set(made)
    set_meta(made, kept)
    check_model(made, name)
    return made


def _one_set(model: onnx.ModelProto) -> None:
    """Name each operator set once, in place, the standard's as the standard does; merging names them twice."""
    sets = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, number) for domain, number in sets.items())


def _turned(model: onnx.ModelProto, raw: str) -> str:
    """The name of `raw` with its last two axes swapped, which becomes the model's output."""
    turned = f"{PREFIX}turned"
    model.graph.node.append(helper.make_node("Transpose", [raw], [turned], turned, perm=[0, 2, 1]))
    kind = model.graph.output[0].type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in kind.shape.dim]
    sizes = [sizes[0], sizes[2], sizes[1]] if len(sizes) == 3 else [None] * 3
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(turned, kind.elem_type, sizes))
    return turned


def _give_way(model: onnx.ModelProto, names: list[str]) -> None:
    """Rename, in place, the tensors of `model` that are called as one of `names`."""
    graph = model.graph
    named = [*graph.input, *graph.output, *graph.initializer, *graph.value_info]
    taken = {value.name for value in named} | {
        n for node in nodes_within(graph.node) for n in (*node.input, *node.output)
    }
    new = {name: next(t for t in _others(name) if t not in taken) for name in names if name in taken}
    for value in named:
        value.name = new.get(value.name, value.name)
    for node in nodes_within(graph.node):
        for ends in (node.input, node.output):
            for i, tensor in enumerate(ends):
                ends[i] = new.get(tensor, tensor)


def _others(name: str) -> list[str]:
    return [f"{name}_in", *(f"{name}_in_{i}" for i in range(1, 100))]


def renamed_inputs(before: onnx.ModelProto, after: onnx.ModelProto) -> dict[str, str]:
    """Old name -> new name of the inputs that had to give way."""
    pairs = zip(free_inputs(before), free_inputs(after), strict=True)
    return {old.name: new.name for old, new in pairs if old.name != new.name}


def one_head(model: onnx.ModelProto, boxes: tuple[str, bool], scores: tuple[str, bool]) -> onnx.ModelProto:
    """`model` with the outputs `boxes` and `scores`, each (name, whether its channels are last), as one:
    (N, 4 + classes, places).
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    parts = []
    for name, last in (boxes, scores):
        parts.append(f"{PREFIX}{name}" if last else name)
        if last:
            made.graph.node.append(helper.make_node("Transpose", [name], [parts[-1]], parts[-1], perm=[0, 2, 1]))
    raw = f"{PREFIX}head"
    made.graph.node.append(helper.make_node("Concat", parts, [raw], raw, axis=1))
    kind = made.graph.output[0].type.tensor_type
    batch = kind.shape.dim[0].dim_value or kind.shape.dim[0].dim_param or None if kind.shape.dim else None
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info(raw, onnx.TensorProto.FLOAT, [batch, None, None]))
    return onnx.shape_inference.infer_shapes(made)


def clipped(model: onnx.ModelProto, boxes: str, channels_last: bool) -> onnx.ModelProto:
    """`model` whose output `boxes` (M, 4) is cut to 0..width and 0..height of the picture that it is given."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    fed = free_inputs(made)[0]
    height, width = (1, 2) if channels_last else (2, 3)
    dims = fed.type.tensor_type.shape.dim
    whole, edges, low = (f"{PREFIX}{name}" for name in ("uncut", "edges", "above"))
    for node in made.graph.node:
        node.output[:] = [whole if name == boxes else name for name in node.output]
        node.input[:] = [whole if name == boxes else name for name in node.input]
    order = [width, height, width, height]
    sizes = [dims[axis].dim_value for axis in order]
    if all(sizes):
        made.graph.initializer.append(helper.make_tensor(edges, onnx.TensorProto.FLOAT, [4], sizes))
    else:
        shape, picked, axes = (f"{PREFIX}{name}" for name in ("shape", "sides", "axes"))
        made.graph.initializer.append(helper.make_tensor(axes, onnx.TensorProto.INT64, [4], order))
        made.graph.node.append(helper.make_node("Shape", [fed.name], [shape], shape))
        made.graph.node.append(helper.make_node("Gather", [shape, axes], [picked], picked))
        made.graph.node.append(helper.make_node("Cast", [picked], [edges], edges, to=onnx.TensorProto.FLOAT))
    made.graph.initializer.append(helper.make_tensor(f"{PREFIX}zero", onnx.TensorProto.FLOAT, [], [0.0]))
    made.graph.node.append(helper.make_node("Max", [whole, f"{PREFIX}zero"], [low], low))
    made.graph.node.append(helper.make_node("Min", [low, edges], [boxes], f"{PREFIX}cut"))
    return made
