"""What `inspect` finds: one model in numbers, layer by layer.

Counted by onnx_numbers.py, or by torch_numbers.py for PyTorch. Test: tests/test_inspect.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgecnn.networks.layout import laid_out
from edgecnn.numbers.layer_table import Table
from runtimes.base import counted
from runtimes.execution.feeds import TensorInfo

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

    `macs` and `activation_bytes` are None where shapes cannot be known. `open_input` names an input of open size.
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
    open_input: str = ""
    channels_last: bool | None = None
    """Where the first input has its channels, as far as the graph tells."""

    @property
    def known_macs(self) -> int:
        """The multiply-adds of the nodes whose shapes are known: `macs`, where those are all."""
        counts = sum(layer.macs for layer in self.layers if layer.macs is not None)
        return counts if self.macs is None else self.macs

    @property
    def uncounted(self) -> tuple[Layer, ...]:
        """The nodes whose multiply-adds are unknown."""
        return tuple(layer for layer in self.layers if layer.macs is None) if self.macs is None else ()

    @property
    def unknown_macs(self) -> str:
        """What is known of the multiply-adds, and why not all; empty where all are."""
        if self.open_input:
            return f"unknown: the size of input {self.open_input} is open, give --input-shape"
        if self.macs is not None or not self.uncounted:
            return ""
        first, *more = self.uncounted
        others = f" and {counted(len(more), 'other node')}" if more else ""
        named = f"{first.op} {first.name}".strip()
        return f"{self.known_macs:,} without {named}{others}, where a shape is unknown"

    @property
    def rewritten(self) -> str:
        """That rewrites for int8 have put in what is counted; empty where there were none."""
        from exporters.artifact import REWRITES_KEY  # it imports onnx

        names = self.metadata.get(REWRITES_KEY)
        if not names:
            return ""
        return (
            f"rewritten for int8 by {names.replace(',', ', ')}: parameters and MACs count the zeros that these may put "
            "in; those of the network itself are in its float model"
        )

    @property
    def layout(self) -> str:
        """NCHW or NHWC, where the first input takes pictures by its shape; else empty."""
        pictures = self.inputs and len(self.inputs[0].shape) == 4
        return laid_out(self.inputs[0].shape[1:], self.channels_last) if pictures else ""

    @property
    def verdict(self) -> str:
        some = f"at least {self.known_macs:,}" if self.known_macs and not self.open_input else "an unknown number of"
        macs = some if self.macs is None else f"{self.macs:,}"
        return f"{self.model}: {counted(self.params, 'parameter')}, {macs} MACs (one multiply-add each) for one input."

    def to_dict(self) -> dict[str, Any]:
        found = {**asdict(self), "layout": self.layout or None, "table": self.table.to_dict()}
        del found["channels_last"]  # the layout says it
        found |= {"known_macs": self.known_macs, "uncounted": [layer.name or layer.op for layer in self.uncounted]}
        return {**found, "stages": [stage.to_dict() for stage in self.stages]}
