"""One of the two models of a diff: run up to some of its tensors, run one layer of it alone, name its layers.

    open(["relu_1"])                     feeds -> {relu_1}             the graph up to there, as it is in the file
    alone("relu_1", {conv_3: value})     the layer between the two, on inputs that are given

PyTorch side: edgecnn/checking/torch_side.py. Test: tests/test_diff.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgecnn.checking.layer import Layer
from edgecnn.data.adapting import Adapter
from edgecnn.networks.assumptions import NOTHING, Assumed
from edgecnn.networks.spec import image_preprocess
from exporters.graph import label
from exporters.layerwise.origin import module_of
from exporters.layerwise.partial import Parts, main_node
from runtimes.base import Array, Runner, Tensors
from runtimes.execution.shapes import ShapeText
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import TensorInfo

if TYPE_CHECKING:
    import onnx

    from edgecnn.given_model import Source


class Side(Protocol):
    """A model under a diff."""

    name: str
    inputs: tuple[TensorInfo, ...]
    preprocess: Preprocess | None
    quantized: bool
    feeds: dict[str, str]
    adapt: Adapter | None
    carried: Preprocess | None
    assumed: Assumed
    said: str

    def open(self, wanted: Sequence[str]) -> Runner:
        """The model up to the tensors `wanted`."""

    def alone(self, tensor: str, given: Tensors) -> Runner:
        """The layer that makes `tensor` from the tensors `given` (whose values tell types); it is fed all of them."""

    def layer(self, tensor: str, parents: Sequence[str]) -> Layer:
        """The layer between the tensors `parents` and `tensor`."""


@dataclass
class GraphSide:
    """An ONNX graph. `feeds` maps the names under which inputs are fed (the reference's) to its own, and `adapt` what
    is fed there: pixels that the reference is given otherwise.

    A graph of integer operators is walked as a twin that has floats between them and sums that no CPU cuts off, one
    that moves integers as a twin with floats before these nodes; `filed` is then the graph as it is in the file.

    `carried` is the preprocessing that it names itself, `ranges` what its int8 grids hold of an input.
    """

    name: str
    parts: Parts
    inputs: tuple[TensorInfo, ...]
    preprocess: Preprocess | None = None
    quantized: bool = False
    threads: int | None = None
    feeds: dict[str, str] = field(default_factory=dict)
    adapt: Adapter | None = None
    carried: Preprocess | None = None
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    assumed: Assumed = NOTHING
    said: str = ""
    filed: Parts | None = None

    def open(self, wanted: Sequence[str]) -> Runner:
        part = self.parts.open(wanted, threads=self.threads, subject=self.name)
        return lambda given: part(self.own(given))

    def alone(self, tensor: str, given: Tensors) -> Runner:
        dtypes = {name: value.dtype for name, value in given.items() if name not in self.parts.inputs}
        part = self.parts.open([tensor], dtypes, threads=self.threads, subject=self.name)
        return lambda values: part(self.own(values))

    def layer(self, tensor: str, parents: Sequence[str]) -> Layer:
        if tensor not in self.parts.place:
            return Layer(tensor, "input", "")
        node = main_node(self.segment(tensor, parents))
        return Layer(label(node), node.op_type, module_of(node))

    def segment(self, tensor: str, parents: Sequence[str]) -> list[onnx.NodeProto]:
        return self.parts.segment(tensor, parents)

    def own(self, given: Tensors) -> dict[str, Array]:
        """What is fed to the reference, as this graph is fed."""
        own = {self.feeds.get(name, name): value for name, value in given.items()}
        return own if self.adapt is None else own | {n: self.adapt(own[n]) for n in self.parts.inputs if n in own}


def open_side(
    source: Source,
    weights: Path | None,
    input_shape: ShapeText | None,
    threads: int | None,
    decode: str | None = None,
    answer: str | int | None = None,
) -> Side:
    """Open an .onnx file, a bundle, a SOURCE of a PyTorch network or a module; raises `BadInput`.

    A graph that does not run to its end is still opened: that may be what is to be found out.
    """
    from runtimes.execution.model_file import is_model_file

    if not isinstance(source, str) or not is_model_file(source):
        from edgecnn.checking.torch_side import open_module

        return open_module(source, weights, input_shape or None, decode, answer)
    return _open_graph(Path(source), input_shape, threads)


def _open_graph(path: Path, input_shape: ShapeText | None, threads: int | None) -> GraphSide:
    from edgecnn.asked_size import at_size, bundle_at, pixels_at
    from edgecnn.networks.entry import entry_of
    from edgecnn.opened import lenient_model
    from edgecnn.runners import graph_inputs, probe_shapes
    from exporters.artifact import read_identity
    from exporters.tensors import require_tensors
    from runtimes.execution.model_file import is_bundle

    model = lenient_model(path)
    require_tensors(model, str(path))
    identity = read_identity(model, str(path))
    sized = at_size(str(path), graph_inputs(model), input_shape)
    _survives(model, path, probe_shapes(model, identity, input_shape))
    side = graph_side(
        model, str(path), pixels_at(identity.preprocess, sized) if identity is not None else None, threads
    )
    if is_bundle(path):
        from runtimes.bundle import open_bundle

        bundle = open_bundle(path)
        side.preprocess = side.carried = (
            bundle_at(bundle, bundle.session(), input_shape) if input_shape else bundle.preprocess
        )
    elif identity is None:
        entry = entry_of(model)
        side.preprocess = image_preprocess(sized, entry)
        side.assumed = Assumed.of_file(side.preprocess, entry)
    return side


def _survives(model: onnx.ModelProto, path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise `BadInput` for a model that kills a child process, or never gives the same answer twice: everything agrees
    with that. One that only fails to run may be what is looked for.
    """
    from exporters.isolation.probe import UNSTEADY, probe
    from exporters.isolation.sandbox import ChildFailed
    from runtimes.base import BadInput

    try:
        probe(model, str(path), input_shapes=shapes, finite=False, repeatable=True)
    except BadInput as error:
        if isinstance(error.__cause__, ChildFailed) or UNSTEADY in str(error):
            raise


def graph_side(
    model: onnx.ModelProto, name: str, preprocess: Preprocess | None = None, threads: int | None = None
) -> GraphSide:
    """A side for a model in memory."""
    from edgecnn.runners import INTEGER_OPS, graph_inputs
    from exporters.layerwise.integer_ops import has_integer_ops, with_floats
    from exporters.quantization.input_range import input_ranges
    from exporters.targets import weight_forms

    quantized = any(node.op_type in INTEGER_OPS for node in model.graph.node)
    inputs, ranges = graph_inputs(model), input_ranges(model) if quantized else {}
    filed = Parts(model)
    if quantized and has_integer_ops(model):
        walked = Parts(weight_forms.exact(with_floats(model)))
    else:
        light = with_floats(filed.model) if quantized else filed.model
        walked = filed if light is filed.model else filed.rewired(light.graph.node, ())
    return GraphSide(name, walked, inputs, preprocess, quantized, threads, carried=preprocess, ranges=ranges,
                     filed=None if walked is filed else filed)  # fmt: skip
