"""What the kernels that really run make of an int8 graph which is right as it stands in its file.

    as in the file     ONNX Runtime without its optimizer: DequantizeLinear -> Conv in float -> QuantizeLinear
    as it runs         with it: QLinearConv, whose sums of two u8 x s8 products are cut off at 16 bits on some CPUs
    exact twin         as it runs, with all weights unsigned, which no CPU cuts off (exporters/targets/weight_forms)

A graph whose file holds QLinearConv and its like is looked at as its exact twin (see `sides`), and runs as in the file.
Where the second is clearly worse than the first and the third is not, saturation is the cause. Then each layer is left
as it is in the exact twin, one at a time: how far the outputs move is what that layer costs.
Test: tests/test_checking_kernels.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgecnn.checking.comparison import Comparison
from edgecnn.checking.layer import Layer
from edgecnn.checking.sides import GraphSide
from exporters.graph import label
from exporters.layerwise.origin import module_of
from exporters.quantization.affine import SEVEN_BITS
from exporters.quantization.kernels import COMPUTE
from exporters.targets import weight_forms
from runtimes.base import BadInput, Runner, Tensors, Track, counted, silent
from runtimes.parity import JSON_SNR_LIMIT, compare, json_number
from runtimes.session import open_session

CLEARLY_DB = 3.0
"""Requantization rounds otherwise than float does, which moves the outputs by less."""
NEAR_DB = 10.0
"""Layers that cost within a tenth of what the worst costs are named, too."""
NAMED = 3


@dataclass(frozen=True)
class Costly:
    """A layer that saturates, and the SNR (dB) that it alone would leave at the outputs."""

    layer: Layer
    snr_db: float

    def __str__(self) -> str:
        where = f" (module {self.layer.module})" if self.layer.module else ""
        return f"{self.layer.node}{where}"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self.layer), "snr_db": json_number(self.snr_db, JSON_SNR_LIMIT)}


@dataclass(frozen=True)
class Kernels:
    """SNR (dB) of the outputs against the reference: of the graph `as_filed`, as it `runs`, and of its `exact` twin,
    which was looked at (not None) where it runs clearly worse. `layers`: what saturates, the costliest first.
    """

    as_filed_db: float
    runs_db: float
    exact_db: float | None = None
    layers: tuple[Costly, ...] = ()

    @property
    def lose(self) -> bool:
        return self.as_filed_db - self.runs_db > CLEARLY_DB

    @property
    def saturate(self) -> bool:
        return self.exact_db is not None and self.exact_db - self.runs_db > CLEARLY_DB

    @property
    def words(self) -> str:
        """One sentence for people; empty where nothing is lost."""
        if not self.lose:
            return ""
        lost = f"as it runs, with ONNX Runtime's optimizer, it gives {self.runs_db:.1f} dB, not {self.as_filed_db:.1f}"
        if not self.saturate:
            return f"{lost}: {self.cause}"
        near = [c for c in self.layers if c.snr_db <= self.layers[0].snr_db + NEAR_DB]
        more = f" and {counted(len(near) - NAMED, 'more layer')}" if len(near) > NAMED else ""
        where = f", most in {', '.join(map(str, near[:NAMED]))}{more}" if near else ""
        return (
            f"{lost}: sums of two 8-bit products exceed 16 bits on this CPU and are cut off{where}; with exact sums it "
            f"gives {self.exact_db:.1f} dB (quantize again with a smaller --max-drop; in ONNX Runtime, reduce_range)"
        )

    @property
    def cause(self) -> str:
        """The same in short, for a line that must not be cut."""
        if not self.saturate:
            return "the kernels that were chosen for it make the difference"
        return f"sums are cut off at 16 bits on this CPU{f', most in {self.layers[0]}' if self.layers else ''}"

    def to_dict(self) -> dict[str, Any]:
        numbers = {"as_filed_db": self.as_filed_db, "runs_db": self.runs_db, "exact_db": self.exact_db}
        limited = {k: None if v is None else json_number(v, JSON_SNR_LIMIT) for k, v in numbers.items()}
        return {**limited, "saturating": [costly.to_dict() for costly in self.layers]}


def kernels(comparison: Comparison, track: Track = silent) -> Kernels | None:
    """What the candidate's kernels lose; None for one that is no int8 graph, or whose outputs have no counterpart."""
    side, ends = comparison.candidate, comparison.ends
    theirs = comparison.tensors(ends, 1)
    if not isinstance(side, GraphSide) or not side.quantized or not set(theirs) <= set(side.parts.outputs):
        return None
    try:
        return _measured(comparison, side, comparison.tensors(ends, 0), theirs, track)
    except BadInput:  # a graph that does not run to its end: the bisection says where
        return None


def _measured(comparison: Comparison, side: GraphSide, ours: list[str], theirs: list[str], track: Track) -> Kernels:
    run, model = comparison.reference.open(ours), (side.filed or side.parts).cut_out(theirs, {})

    def wanted(given: Tensors) -> Tensors:
        made = run(given)
        return {name: made[own] for own, name in zip(ours, theirs, strict=True)}

    def against(runner: Runner) -> float:
        return compare(wanted, runner, comparison.feeds).snr_db

    first = Kernels(against(side.open(theirs)), against(_runner(side, model)))
    if not first.lose or not math.isfinite(first.runs_db):
        return first
    exact = _runner(side, weight_forms.exact(model))
    found = replace(first, exact_db=against(exact))
    return replace(found, layers=_costly(side, model, exact, comparison, track)) if found.saturate else found


def _costly(
    side: GraphSide, model: onnx.ModelProto, exact: Runner, comparison: Comparison, track: Track
) -> tuple[Costly, ...]:
    layers = []
    for weight, layer in track(list(_at_risk(model)), "looking for layers that saturate"):
        alone = _runner(side, weight_forms.exact(model, signed=(weight,)))
        layers.append(Costly(layer, compare(exact, alone, comparison.feeds).snr_db))
    return tuple(sorted((c for c in layers if c.snr_db < math.inf), key=lambda c: c.snr_db))


def _runner(side: GraphSide, model: onnx.ModelProto) -> Runner:
    session = open_session(model, threads=side.threads, subject=side.name)
    return lambda given: session(side.own(given))


def _at_risk(model: onnx.ModelProto) -> Iterator[tuple[str, Layer]]:
    """(name among `signed`, layer) of each layer whose signed weights are too large to be safe."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    readers = {node.input[1]: node for node in model.graph.node if node.op_type in COMPUTE and len(node.input) > 1}
    for node in (n for n in model.graph.node if n.op_type in weight_forms.STORED):
        name, tensor = weight_forms.weights_name(node), stored.get(node.input[weight_forms.STORED[node.op_type][0]])
        layer = readers.get(name) if node.op_type == "DequantizeLinear" else node
        if tensor is None or layer is None:
            continue
        weight = numpy_helper.to_array(tensor)
        if weight.dtype == np.int8 and np.abs(weight.astype(np.int16)).max(initial=0) > SEVEN_BITS:
            yield name, Layer(label(layer), layer.op_type, module_of(layer))
