"""What `inspect` finds: one model in numbers, layer by layer.

Counted by onnx_numbers.py, or by torch_numbers.py for PyTorch. Test: tests/test_inspect.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgecnn.numbers.layer_table import Table
from runtimes.base import counted
from runtimes.execution.feeds import TensorInfo
from runtimes.imaging.preprocess import layout_of

if TYPE_CHECKING:
    from exporters.artifact import Stage

Sizes = tuple[int, ...]
"""Sizes of one tensor."""


@dataclass(frozen=True)
class Layer:
    """One node (or module). `output` is the shape of its first output, `macs` None where shapes are unknown."""

    name: str
    op: str
    module: str
    output: Sizes | None
    params: int
    macs: int | None


@dataclass(frozen=True)
class Inspection:
    """Counts of one model for one input; `layers` has every operator, `table` the lines that a textbook prints.

    `macs` and `activation_bytes` are None where shapes cannot be known.
    """

    model: str
    kind: str
    params: int
    macs: int | None
    activation_bytes: int | None
    size_bytes: int
    opset: int | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: Mapping[str, int]
    layers: tuple[Layer, ...]
    table: Table
    stages: tuple[Stage, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def layout(self) -> str:
        """NCHW or NHWC, where the first input takes pictures by its shape; else empty."""
        return layout_of(self.inputs[0].shape[1:]) if self.inputs and len(self.inputs[0].shape) == 4 else ""

    @property
    def verdict(self) -> str:
        macs = "an unknown number of" if self.macs is None else f"{self.macs:,}"
        return f"{self.model}: {counted(self.params, 'parameter')}, {macs} MACs (one multiply-add each) for one input."

    def to_dict(self) -> dict[str, Any]:
        found = {**asdict(self), "layout": self.layout or None, "table": self.table.to_dict()}
        return {**found, "stages": [stage.to_dict() for stage in self.stages]}
