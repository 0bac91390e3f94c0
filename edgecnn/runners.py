"""Whatever a user names, as something that turns input arrays into output arrays, with what it wants to be fed.

An .onnx file and a bundle run on ONNX Runtime; everything else is a SOURCE of a PyTorch network, run by torch.
Test: tests/test_compare.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgecnn.asked_size import asked_shapes, at_size, bundle_at, pixels_at
from edgecnn.data.fingerprint import DataSet, known_sets
from edgecnn.given_model import called, is_file
from edgecnn.networks.assumptions import NOTHING, Assumed
from edgecnn.networks.spec import image_preprocess
from runtimes.base import Array, BadInput, Runner
from runtimes.comparing.matching import NAMES as DETECTIONS
from runtimes.comparing.matching import Edges
from runtimes.execution.model_file import external_of, is_bundle, is_model_file, model_of, open_any
from runtimes.execution.shapes import ShapeText
from runtimes.imaging.preprocess import Preprocess
from runtimes.session import Session, TensorInfo, open_session

if TYPE_CHECKING:
    import onnx

    from edgecnn.given_model import Source
    from exporters.artifact import Identity

INTEGER_OPS = {
    "QuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
}
INTEGER_CHOICES, HALF_CHOICE = ("int8", "mixed"), "fp16"
"""What a bundle calls the graph that was chosen for it, where that is not float32."""


class Fed(Protocol):
    """What is asked of a model before it is fed: its name, its inputs, and how pictures are made ready for it."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...
    @property
    def preprocess(self) -> Preprocess | None: ...
    @property
    def carried(self) -> Preprocess | None: ...
    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]: ...
    @property
    def quantized(self) -> bool: ...


@dataclass(frozen=True)
class Subject:
    """A model under comparison. `preprocess` is None when its input is not one image, `seeded` a network that no
    weights were given for; `task` is None, `labels` empty, where the model does not tell. `again` opens a runner of the
    same function with other rounding, None where there is none; `half` says that numbers are float16.
    """

    name: str
    runner: Runner
    inputs: tuple[TensorInfo, ...]
    preprocess: Preprocess | None
    quantized: bool
    seeded: bool = False
    outputs: tuple[TensorInfo, ...] = ()
    task: str | None = None
    sigmoid: bool = False
    """Its answers come out of a Sigmoid."""
    labels: tuple[str, ...] = ()
    half: bool = False
    """Holds float16 tensors."""
    again: Callable[[], Runner] | None = None
    carried: Preprocess | None = None
    """Its preprocessing, where the model itself says so."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """What an int8 grid can hold of an input."""
    edges: Edges = field(default_factory=Edges)
    """At which overlaps and scores a detector drops boxes, where its graph says so."""
    assumed: Assumed = NOTHING
    """What nobody said of its input."""
    said: str = ""
    """The line about outputs of a network that were left out, or its task that is not used."""
    trained_on: tuple[DataSet, ...] = ()
    """What it has learned from, as far as it says so."""
    calibrated_on: str = ""
    """The fingerprint of the data that set its int8 ranges, where it says so."""

    @property
    def how(self) -> str:
        """What `again` does."""
        return "float64" if not is_model_file(self.name) else "with and without ONNX Runtime's optimizer"


def open_subject(
    source: Source,
    weights: Path | None = None,
    input_shape: ShapeText | None = None,
    threads: int | None = None,
    provider: str = "cpu",
    decode: str | None = None,
    task: str | None = None,
    answer: str | int | None = None,
) -> Subject:
    """Open an .onnx file, a bundle, a SOURCE (with `weights`) or a module; raises what the opening raises.

    A SOURCE is run by torch on the CPU and can have no other `provider`; `decode` is the raw head that it answers with,
    `task` what it is asked for, `answer` which of its outputs counts.
    """
    if not isinstance(source, str) or not is_model_file(source):
        if provider != "cpu":
            raise BadInput(f"{called(source)}: is a PyTorch network; export it to run it on {provider}")
        return _from_torch(source, weights, input_shape, decode, task, answer)
    path = Path(source)
    if is_bundle(path):
        return _from_bundle(path, input_shape, threads, provider)
    return _from_onnx(path, input_shape, threads, provider)


def _from_bundle(path: Path, input_shape: ShapeText | None, threads: int | None, provider: str) -> Subject:
    from runtimes.bundle import open_bundle

    bundle = open_bundle(path)
    session = bundle.session(provider, threads)
    preprocess = bundle_at(bundle, session, input_shape)
    return Subject(
        str(path), session, session.inputs, preprocess, bundle.chosen in INTEGER_CHOICES,
        outputs=session.outputs, task=bundle.task, labels=bundle.labels, sigmoid=bundle.sigmoid,
        half=bundle.chosen == HALF_CHOICE,
        again=_plain(path, threads) if bundle.chosen == "float" else None, carried=preprocess,
        ranges=_bundle_ranges(path) if bundle.chosen in INTEGER_CHOICES and preprocess is None else {},
        trained_on=known_sets(bundle.manifest.get("trained_on")),
        calibrated_on=_mark_in(bundle.manifest.get("recipe")) if bundle.chosen in INTEGER_CHOICES else "",
    )  # fmt: skip


def _mark_in(recipe: object) -> str:
    """The fingerprint of the data that a `recipe` calibrated on; empty where it has none."""
    found = recipe.get("fingerprint") if isinstance(recipe, dict) else None
    return found if isinstance(found, str) else ""


def _bundle_ranges(path: Path) -> dict[str, tuple[float, float]]:
    from edgecnn.opened import read_model
    from exporters.quantization.input_range import input_ranges

    return input_ranges(read_model(path)[0])


def _from_onnx(path: Path, input_shape: ShapeText | None, threads: int | None, provider: str) -> Subject:
    """A model from anywhere is run once in a child process first: it may crash, or never give the same answer twice."""
    from edgecnn.networks.entry import entry_of
    from exporters.artifact import read_identity, read_recipe
    from exporters.ending import SIGMOID, ending_of
    from exporters.isolation.probe import probe
    from exporters.load import load_model
    from exporters.quantization.input_range import input_ranges
    from exporters.suppression import edges_of

    model = load_model(path)
    identity = read_identity(model, str(path))
    sized = at_size(str(path), graph_inputs(model), input_shape)
    shapes = probe_shapes(model, identity, input_shape)
    probe(model, str(path), input_shapes=shapes, finite=False, repeatable=True)
    session = open_any(path, provider, threads)
    carried = pixels_at(identity.preprocess, sized) if identity is not None else None
    entry = entry_of(model)
    preprocess = carried if identity is not None else image_preprocess(sized, entry)
    assumed = Assumed.of_file(preprocess, entry) if identity is None else NOTHING
    quantized = any(node.op_type in INTEGER_OPS for node in model.graph.node)
    task, labels = (identity.task, identity.labels) if identity is not None else (None, ())
    half = any(tensor.data_type == tensor.FLOAT16 for tensor in model.graph.initializer)
    return Subject(
        str(path), casting(session), session.inputs, preprocess, quantized, outputs=session.outputs, task=task,
        labels=labels, again=None if quantized else _plain(path, threads), half=half,
        carried=carried, ranges=input_ranges(model), assumed=assumed,
        edges=edges_of(model), sigmoid=ending_of(model) == SIGMOID,
        trained_on=known_sets(identity.trained_on if identity is not None else ()),
        calibrated_on=_mark_in(read_recipe(model)),
    )  # fmt: skip


def casting(session: Session) -> Runner:
    """`session`, which also takes floats of another width than its inputs': float16 models are fed with float32."""
    wanted = {info.name: info.dtype for info in session.inputs if info.dtype.startswith("float")}

    def cast(name: str, value: Array) -> Array:
        return value.astype(wanted[name]) if name in wanted and value.dtype.kind == "f" else value

    return lambda feeds: session({name: cast(name, value) for name, value in feeds.items()})


def _plain(path: Path, threads: int | None) -> Callable[[], Runner]:
    """The same model without ONNX Runtime's optimizer: sums in another order."""
    return lambda: open_session(model_of(path), "cpu", threads, optimize=False, external=external_of(path))


def graph_inputs(model: onnx.ModelProto) -> tuple[TensorInfo, ...]:
    """What a model must be fed, without opening a session."""
    from exporters.graph import free_inputs

    return tuple(map(_info, free_inputs(model)))


def require_numbers(inputs: Sequence[TensorInfo]) -> None:
    """Raise `BadInput` for an input that can hold no number: equal answers to it would prove nothing."""
    for info in inputs:
        if 0 in info.shape:
            shape = ", ".join(map(str, info.shape))
            raise BadInput(
                f"input {info.name} has a size of 0, [{shape}], and holds no number; export it with an open size"
            )


def graph_outputs(model: onnx.ModelProto) -> tuple[TensorInfo, ...]:
    """What a model answers with, without opening a session."""
    return tuple(map(_info, model.graph.output))


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    from onnx import helper

    from exporters.tensors import TENSOR, kind_of

    kind, tensor = kind_of(value), value.type.tensor_type
    sizes = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if kind == TENSOR else kind
    return TensorInfo(value.name, dtype, sizes)


def probe_shapes(
    model: onnx.ModelProto, identity: Identity | None, input_shape: ShapeText | None
) -> dict[str, tuple[int, ...]]:
    """The shapes to try a model with before a session tells what it wants: the user's, else those of its pictures."""
    inputs = graph_inputs(model)
    if not input_shape and inputs and identity is not None and identity.preprocess is not None:
        return {inputs[0].name: (1, *identity.preprocess.shape)}
    return asked_shapes(inputs, input_shape)


def is_guess(preprocess: Preprocess | None) -> bool:
    """Whether a preprocessing that nobody named changes numbers: uint8 pixels go in as they are."""
    return preprocess is not None and preprocess.floating


def refuse_for_files(
    models: Sequence[Source], decode: str | None = None, answer: str | int | None = None, weights: Path | None = None
) -> None:
    """Raise `BadInput` for what is of PyTorch networks alone, where none of the `models` is one: a file has its own."""
    if not all(is_file(model) for model in models):
        return
    if decode is not None:
        raise BadInput(
            f"--decode {decode}: no model is a PyTorch network; `edgecnn decode {models[0]}` makes boxes of it"
        )
    if answer is not None:
        raise BadInput(f"--answer {answer}: no model is a PyTorch network; export it with --answer")
    if weights is not None:
        raise BadInput(f"--weights {weights}: no model is a PyTorch network; leave it out")


def of_threads(models: Sequence[Source], threads: int | None) -> str:
    """The line that `threads`, which were given, do nothing, as no one of the `models` is a file; else empty."""
    if threads is None or any(is_file(model) for model in models):
        return ""
    return f"--threads {threads}: does nothing for PyTorch networks; set OMP_NUM_THREADS for those"


def _from_torch(
    source: Source,
    weights: Path | None,
    input_shape: ShapeText | None,
    decode: str | None,
    task: str | None,
    answer: str | int | None,
) -> Subject:
    from edgecnn.coarse_sigmoids import with_coarse_sigmoids
    from edgecnn.networks.sources import resolve
    from edgecnn.numbers.torch_numbers import torch_runner
    from exporters.ending import SIGMOID

    network = resolve(source, weights, input_shape or None, decode=decode, task=task, answer=answer)
    names = DETECTIONS if network.task == "detection" else ()
    runner = torch_runner(network.module, network.shapes, own_names=names)
    outputs = (TensorInfo("output", "float32", ("batch", network.classes)),) if network.classes else ()
    return Subject(
        called(source), runner, network.inputs, network.preprocess, quantized=False, seeded=network.seeded,
        outputs=outputs, task=network.task, labels=network.labels, sigmoid=network.ending == SIGMOID,
        again=lambda: with_coarse_sigmoids(
            torch_runner(network.module, network.shapes, double=True, own_names=names)
        ),
        assumed=network.assumed, said=network.said, trained_on=network.trained_on,
    )  # fmt: skip
