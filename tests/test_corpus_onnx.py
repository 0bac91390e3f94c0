"""The `onnx` package's own test cases through simplify and fold, with the outputs that it ships.

Every case about an operator that convolutional networks use (the node tests, and the models on disk that PyTorch once
wrote) that ONNX Runtime runs right as it is, is simplified and folded; then its shipped inputs must still give its
shipped outputs. A case from a newer operator set than the runtime knows is first converted down, as `--target` does.
The node tests hand weights, shapes and axes in as inputs; here all but the first are initializers, as in a network.
Limit: the one that `onnx.backend.test.runner` itself uses, relative 1e-3 and absolute 1e-7, and 1e-4 of the largest
value, because an output of zeros and ones has no relative error.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecnn.float_passes import simplified
from exporters.graph import copy_model, opset
from exporters.isolation.sandbox import run_in_child
from exporters.passes import fold_batchnorm, simplify
from runtimes.base import Array, BadInput, EdgeError
from runtimes.session import open_session

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
CNN = {
    "Abs",
    "Add",
    "ArgMax",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "CenterCropPad",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "DynamicQuantizeLinear",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GridSample",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LeakyRelu",
    "Less",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "LpPool",
    "MatMul",
    "MatMulInteger",
    "Max",
    "MaxPool",
    "MaxUnpool",
    "Mean",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "NonMaxSuppression",
    "PRelu",
    "Pad",
    "Pow",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Resize",
    "RoiAlign",
    "Selu",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Tile",
    "TopK",
    "Transpose",
    "Unsqueeze",
    "Upsample",
    "Where",
}
NEWEST_OPSET, NEWEST_IR = 21, 10
"""What every supported ONNX Runtime loads."""

AT_LEAST = 525
MOST_KNOWN = 534
"""Cases that the bar was set on; with more operators in the list above there are more."""

EXCUSED: dict[str, str] = {}
"""Case -> why it may fail."""


@dataclass(frozen=True)
class Case:
    name: str
    model: onnx.ModelProto
    sets: list[tuple[list[Array], list[Array]]]


def on_disk() -> Iterator[Case]:
    for folder in ("simple", "pytorch-converted", "pytorch-operator"):
        for path in sorted((DATA / folder).glob("*/model.onnx")):
            folders = sorted(path.parent.glob("test_data_set_*"))
            sets = [(_tensors(one, "input"), _tensors(one, "output")) for one in folders]
            if all(value is not None for pair in sets for part in pair for value in part):
                yield Case(f"{folder}/{path.parent.name}", onnx.load(path), sets)  # type: ignore[arg-type]


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _tensors(folder: Path, kind: str) -> list[Array | None]:
    return [_tensor(path) for path in sorted(folder.glob(f"{kind}_*.pb"), key=_number)]


def _tensor(path: Path) -> Array | None:
    """None for a sequence or an optional value."""
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(tensor)
    except Exception:
        return None


def nodes() -> Iterator[Case]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases()
    for case in cases:
        if all(isinstance(v, np.ndarray) for one in case.data_sets for part in one for v in part):
            yield Case(case.name, case.model, [(list(a), list(b)) for a, b in case.data_sets])


def runnable(case: Case) -> Case | None:
    """The case in an operator set that ONNX Runtime has, when it gives the shipped outputs; else None."""
    model = copy_model(case.model)
    numbers = all(array.dtype.kind in "fiub" for one in case.sets for part in one for array in part)
    if not numbers or not {node.op_type for node in model.graph.node} <= CNN:
        return None
    try:
        if opset(model) > NEWEST_OPSET:
            model = onnx.version_converter.convert_version(model, NEWEST_OPSET)
        model.ir_version = min(max(model.ir_version, 4), NEWEST_IR)
        case = baked(Case(case.name, model, case.sets))
        model = case.model
        onnx.checker.check_model(model, full_check=True)
        made = Case(case.name, model, case.sets)
        return None if wrong(made, model) else made
    except Exception:
        return None


def baked(case: Case) -> Case:
    """`case` with every input but the first as an initializer, when it comes with one set of values."""
    values = list(case.model.graph.input)
    if len(case.sets) != 1 or len(values) != len(case.sets[0][0]) or len(values) < 2:
        return case
    del case.model.graph.input[1:]
    (inputs, outputs), first = case.sets[0], values[0]
    case.model.graph.initializer.extend(
        numpy_helper.from_array(array, value.name) for value, array in zip(values[1:], inputs[1:], strict=True)
    )
    assert case.model.graph.input[0].name == first.name
    return Case(case.name, case.model, [(inputs[:1], outputs)])


def wrong(case: Case, model: onnx.ModelProto) -> str:
    """What differs from the shipped outputs."""
    session = open_session(model, optimize=False, threads=1)
    for inputs, outputs in case.sets:
        got = session(dict(zip([info.name for info in session.inputs], inputs, strict=False)))
        for (name, value), expected in zip(got.items(), outputs, strict=True):
            if value.shape != expected.shape or value.dtype != expected.dtype:
                return f"{name} has shape {value.shape} and type {value.dtype}"
            if not _close(value, expected):
                return f"{name} has other values"
    return ""


def _close(value: Array, expected: Array) -> bool:
    if value.dtype.kind != "f":
        return bool((value == expected).all())
    top = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    return np.allclose(value, expected, rtol=1e-3, atol=1e-7 + 1e-4 * float(top), equal_nan=True)


@functools.cache
def corpus() -> list[Case]:
    return [case for case in map(runnable, (*on_disk(), *nodes())) if case is not None]


def walked(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """What runs in one child for the whole corpus: the cases' names, and of those that do not go through, the reason.

    A child for each case would take longer to start than to work; that there is one is told by tests/test_simplify.py.
    """
    simplify.run_in_child = here
    cases = corpus()
    failures = {case.name: reason for case in cases if (reason := road(case))}
    return b"", {"cases": [case.name for case in cases], "failures": failures}


def here(target: str, data: bytes, options: dict[str, Any], **limits: float) -> tuple[bytes, dict[str, Any]]:
    """`sandbox.run_in_child` without a child: a crash, which leaves a graph as it was there, fails the corpus here."""
    assert target == "exporters.passes.simplify:child"
    return simplify.child(data, **options)


def road(case: Case) -> str:
    """Simplify and fold; why the case does not go through, or ""."""
    shapes = {value.name: array.shape for value, array in zip(case.model.graph.input, case.sets[0][0], strict=False)}
    known = {name: shape for name, shape in shapes.items() if shape and 0 not in shape}
    try:
        model = simplified(case.model, input_shapes=known, name=case.name).model
        model = fold_batchnorm.run(model).model
        onnx.checker.check_model(model, full_check=True)
        return wrong(case, model)
    except EdgeError as error:
        return str(error)


@pytest.mark.slow
def test_the_shipped_outputs_come_out() -> None:
    _, told = run_in_child("test_corpus_onnx:walked", b"", {}, timeout_s=600.0, memory_mb=6144)
    cases, failures = told["cases"], told["failures"]
    assert len(cases) >= MOST_KNOWN
    assert {name: reason for name, reason in failures.items() if name not in EXCUSED} == {}
    assert set(EXCUSED) <= set(cases), "an excuse for a case that there is not"
    assert len(cases) - len(failures) >= AT_LEAST


def test_a_wrong_output_is_seen() -> None:
    case = next(on_disk())
    shifted = Case(case.name, case.model, [(a, [value + 1 for value in b]) for a, b in case.sets])
    assert wrong(case, case.model) == ""
    assert "other values" in wrong(shifted, case.model)
    assert isinstance(BadInput("x"), EdgeError)
